"""The buffer's protocol, message by message."""

from collections.abc import Callable
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.errors import DeadlineError, WireError
from async_r1.messages import read_batch, read_leases, write_score, write_segment
from async_r1.types import Batch, FinishReason, Lease, LeaseKind, Score
from async_r1.wire import Message
from buffer.core import MAX_ERROR_CHARS, BufferCore
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout
from tests.buffer.fakes import FakeTask, make_config, make_segment, prompt_tokens

A, B, LEARNER = b"actor_000/1", b"actor_001/2", b"learner_000/3"


class ListJournal:
    """A journal in memory."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def append(self, message: Message) -> int:
        self.messages.append(message)
        return len(self.messages)

    def close(self) -> None:
        pass


class Desk:
    """A core and what it sent; plays its peers by hand."""

    def __init__(self, config: Config, num_eval: int = 3) -> None:
        self.journal = ListJournal()
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.recorded: list[tuple[int, list[ClosedGroup], list[Rollout]]] = []
        self.core = BufferCore(
            config,
            FakeTask(num_eval=num_eval),
            self.journal,
            write_row=lambda stream, row: self.rows.append((stream, row)),
            record=lambda *args: self.recorded.append(args),
        )
        self.now = 0.0

    def send(self, peer: bytes, kind: str, **values: Any) -> list[tuple[bytes, Message]]:
        return self.core.handle(peer, Message(kind, values), self.now)

    def handle(self, peer: bytes, message: Message | WireError) -> list[tuple[bytes, Message]]:
        return self.core.handle(peer, message, self.now)

    def tick(self, seconds: float) -> list[tuple[bytes, Message]]:
        self.now += seconds
        return self.core.tick(self.now)

    def join(self, peer: bytes = A, index: int = 0) -> Message:
        ((to, message),) = self.send(peer, "hello", role="actor", index=index)
        assert to == peer
        return message

    def request(self, free: int, received: int = 0, peer: bytes = A) -> list[Lease]:
        sent = self.send(peer, "lease_request", free_slots=free, leases_received=received)
        assert {to for to, _ in sent} <= {peer}
        return [lease for _, message in sent for lease in read_leases(message)]

    def finish(
        self,
        lease: Lease,
        total: float,
        peer: bytes = A,
        version: int = 0,
        *,
        error: str = "",
        num_tokens: int = 1,
        **rewards: float,
    ) -> list[tuple[bytes, Message]]:
        """Sample and score what a lease asks for; with an error, it has no rewards."""
        segment = make_segment(
            [lease.rollout_id] * num_tokens,
            prefix=lease.prefix_ids.tolist(),
            versions=[version] * num_tokens,
            finish=FinishReason.STOP,
            prompt=prompt_tokens(lease.prompt_id).tolist(),
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
        )
        answers = self.handle(peer, write_segment(segment))
        assert answers[0][1].kind == "ack", answers
        score = Score(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            rewards={} if error else {"task": total, "total": total, **rewards},
            text=f"text {lease.rollout_id}",
            error=error,
        )
        return answers[1:] + self.handle(peer, write_score(score))

    def train(self, version: int, step: int) -> list[tuple[bytes, Message]]:
        return self.send(
            LEARNER, "step_done", batch_id=step, step=step, policy_version=version, trained_tokens=1
        )


def kinds(sent: list[tuple[bytes, Message]]) -> list[tuple[bytes, str]]:
    return [(peer, message.kind) for peer, message in sent]


def batch_of(sent: list[tuple[bytes, Message]]) -> Batch:
    (message,) = [message for _, message in sent if message.kind == "batch"]
    return read_batch(message)


@pytest.fixture
def desk() -> Desk:
    """B = 2 groups of 2, eta = 1: four groups, eight rollouts, are admitted at version 0."""
    return Desk(make_config(staleness={"eta": 1}))


# -- actors ---------------------------------------------------------------------------------


def test_welcome_names_version_and_credit(desk: Desk) -> None:
    welcome = desk.join()
    credit = desk.core.config.actors.credit_bytes
    assert (welcome.kind, dict(welcome.values)) == (
        "welcome",
        {"policy_version": 0, "credit_bytes": credit},
    )
    ((_, welcome),) = desk.send(LEARNER, "hello", role="learner", name="l", policy_version=0)
    assert welcome.kind == "welcome"


def test_leases_are_granted_up_to_free_slots_and_admission(desk: Desk) -> None:
    desk.join()
    first = desk.request(3)
    assert [(lease.group_id, lease.member) for lease in first] == [(0, 0), (0, 1), (1, 0)]
    assert first[0].prompt_id == first[1].prompt_id != first[2].prompt_id
    assert len({lease.seed for lease in first}) == 3
    rest = desk.request(100, received=3)
    assert [lease.group_id for lease in rest] == [1, 2, 2, 3, 3]
    assert desk.request(100, received=8) == []


def test_leases_in_flight_fill_slots_that_the_actor_still_calls_free(desk: Desk) -> None:
    desk.join()
    assert len(desk.request(4)) == 4
    assert desk.request(4, received=0) == []  # they crossed on the way
    assert desk.request(2, received=2) == []
    assert len(desk.request(1, received=4)) == 1
    assert len(desk.request(2, received=4)) == 1


def test_hello_said_twice_forgets_no_lease_in_flight(desk: Desk) -> None:
    desk.join()
    assert len(desk.request(4)) == 4
    desk.join()
    assert desk.request(4, received=0) == []


def test_an_actor_that_received_more_than_was_counted_is_believed(desk: Desk) -> None:
    desk.join()
    assert len(desk.request(1, received=5)) == 1
    assert desk.request(1, received=5) == []


def test_seeds_depend_on_run_rollout_and_lease_alone() -> None:
    seeds = []
    for seed in (0, 0, 1):
        desk = Desk(make_config(seed=seed))
        desk.join()
        first = desk.request(1)
        desk.send(A, "bye")
        desk.train(version=1, step=1)
        desk.join(B, 1)
        (again,) = desk.request(1, peer=B)
        assert again.rollout_id == first[0].rollout_id and again.lease_epoch == 2
        seeds.append((first[0].seed, again.seed))
    assert seeds[0] == seeds[1] and len({*seeds[0], *seeds[2]}) == 4


def test_unknown_actors_are_asked_to_rejoin(desk: Desk) -> None:
    assert kinds(desk.send(A, "lease_request", free_slots=1, leases_received=0)) == [(A, "rejoin")]
    assert kinds(desk.send(A, "heartbeat")) == [(A, "rejoin")]
    desk.join()
    assert desk.send(A, "heartbeat") == []
    desk.send(LEARNER, "hello", role="learner", name="l", policy_version=0)
    assert desk.send(LEARNER, "heartbeat") == []


def test_silent_actor_loses_its_leases_and_an_idle_one_is_asked_back(desk: Desk) -> None:
    desk.join()
    desk.join(B, 1)
    leases = desk.request(2)
    dead_after = desk.core.config.actors.dead_after_s
    desk.tick(dead_after)
    desk.send(B, "heartbeat")
    desk.tick(1.0)
    assert list(desk.core.granting.actors) == [B]
    assert kinds(desk.send(A, "heartbeat")) == [(A, "rejoin")]
    desk.train(version=1, step=1)
    again = desk.request(2, peer=B)
    assert [lease.rollout_id for lease in again] == [lease.rollout_id for lease in leases]
    assert [lease.lease_epoch for lease in again] == [2, 2]


def test_stale_epoch_is_revoked_and_changes_nothing(desk: Desk) -> None:
    desk.join()
    (lease,) = desk.request(1)
    desk.send(A, "bye")
    desk.join(B, 1)
    desk.train(version=1, step=1)
    (again,) = desk.request(1, peer=B)
    segment = make_segment([5], rollout_id=lease.rollout_id)
    ((peer, message),) = desk.handle(A, write_segment(segment))
    assert (peer, message.kind) == (A, "revoked")
    assert message.values == {"rollout_id": lease.rollout_id, "lease_epoch": 1}
    assert not [m for m in desk.journal.messages if m.kind == "segment"]
    assert desk.core.book.rollouts[again.rollout_id].num_tokens == 0
    unknown = make_segment([5], rollout_id=12345)
    assert kinds(desk.handle(A, write_segment(unknown))) == [(A, "revoked")]


def test_acknowledged_once_journaled_once(desk: Desk) -> None:
    desk.join()
    (lease,) = desk.request(1)
    segment = write_segment(make_segment([5, 6], rollout_id=lease.rollout_id))
    for _ in range(3):
        ((_, ack),) = desk.handle(A, segment)
        assert (ack.kind, dict(ack.values)) == (
            "ack",
            {"rollout_id": 0, "lease_epoch": 1, "token_offset": 0, "num_tokens": 2},
        )
    journaled = [m for m in desk.journal.messages if m.kind == "segment"]
    assert [message.values["actor"] for message in journaled] == ["actor_000"]
    assert desk.core.stats.counts["wire/duplicates"] == 2
    assert desk.core.stats.tokens_received == 2


def test_a_failed_journal_acknowledges_nothing(desk: Desk) -> None:
    desk.join()
    (lease,) = desk.request(1)

    def fail(message: Message) -> int:
        raise OSError("disk full")

    desk.journal.append = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="disk full"):
        desk.handle(A, write_segment(make_segment([5], rollout_id=lease.rollout_id)))


def test_shuffled_rewards_move_inside_their_group_only() -> None:
    config = make_config(reward={"shuffle": True}, buffer={"group_size": 4}, learner={}, seed=3)
    desk = Desk(config)
    desk.join()
    moved = False
    for group, leases in enumerate((desk.request(4), desk.request(4, received=4))):
        for lease in leases:
            desk.finish(lease, total=10.0 * group + lease.member)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    for group in (0, 1):
        rewards = batch.rewards[batch.groups == group].tolist()
        assert sorted(rewards) == [10.0 * group + member for member in range(4)]
        moved |= rewards != sorted(rewards)
    assert moved


# -- what is no message ----------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any]]] = [
    ("who knows", {}),
    ("hello", {"role": "spy"}),
    ("hello", {"role": "actor"}),
    ("hello", {}),
    ("lease_request", {"free_slots": "many", "leases_received": 0}),
    ("segment", {"rollout_id": 0}),
    ("score", {"rollout_id": 0, "rewards": {b"x": 1, "y": 2}}),
    ("batch_request", {}),
    ("step_done", {"step": 1}),
]


@pytest.mark.parametrize(("kind", "values"), BAD)
def test_bad_messages_are_answered_counted_and_change_nothing(
    desk: Desk, kind: str, values: dict[str, Any]
) -> None:
    desk.join()
    ((peer, message),) = desk.send(A, kind, **values)
    assert (peer, message.kind, message.values["error"]) == (A, "error", "WireError")
    assert desk.core.stats.counts["wire/rejected"] == 1
    assert (desk.core.version, desk.core.step) == (0, 0)
    assert len(desk.request(1)) == 1


def test_bytes_that_are_no_message_are_answered_in_few_words(desk: Desk) -> None:
    ((_, message),) = desk.handle(A, WireError("x" * 10**6))
    assert message.kind == "error" and len(message.values["text"]) == MAX_ERROR_CHARS


def test_contradictions_are_protocol_errors_and_leave_the_state(desk: Desk) -> None:
    desk.train(version=2, step=2)
    for message in (
        {"kind": "step_done", "step": 9, "policy_version": 1},
        {"kind": "batch_request", "policy_version": 1},
    ):
        ((_, answer),) = desk.send(LEARNER, **message)
        assert answer.values["error"] == "ProtocolError"
        assert "version 1 after 2" in answer.values["text"]
    assert (desk.core.version, desk.core.step) == (2, 2)
    desk.join()
    (lease,) = desk.request(1)
    ((_, answer),) = desk.handle(
        A, write_segment(make_segment([5], prefix=[4], rollout_id=lease.rollout_id))
    )
    assert answer.values["error"] == "ProtocolError"
    assert "has 0 tokens, got a segment at offset 1" in answer.values["text"]


# -- learner ---------------------------------------------------------------------------------


def fill(desk: Desk, count: int, equal: Callable[[Lease], bool] = lambda lease: False) -> None:
    """Finish `count` new rollouts; the members of a group differ unless `equal`."""
    received = desk.core.granting.actors[A].granted
    for lease in desk.request(count, received=received):
        desk.finish(lease, 1.0 if equal(lease) else float(lease.member))


def test_batch_is_sent_as_soon_as_its_last_group_closed(desk: Desk) -> None:
    desk.join()
    assert desk.send(LEARNER, "batch_request", policy_version=0) == []
    leases = desk.request(4)
    sent = [desk.finish(lease, float(lease.member)) for lease in leases]
    assert [kinds(messages) for messages in sent[:3]] == [[], [], []]
    assert (LEARNER, "batch") in kinds(sent[3])
    batch = batch_of(sent[3])
    assert batch.rollout_ids.tolist() == [0, 1, 2, 3]
    assert batch.rewards.tolist() == [0, 1, 0, 1]
    assert batch.info["accuracy/mean"] == 0.5
    drawn = [m for m in desk.journal.messages if m.kind == "draw"]
    assert [m.values for m in drawn] == [{"batch_id": 1, "version": 0, "group_ids": [0, 1]}]
    ((step, groups, failed),) = desk.recorded
    assert (step, [group.group_id for group in groups], failed) == (1, [0, 1], [])


def test_batch_info_counts_the_groups_that_do_not_train(desk: Desk) -> None:
    """Two groups of two: one all right, one half right."""
    desk.join()
    fill(desk, 4, equal=lambda lease: lease.group_id == 0)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.rollout_ids.tolist() == [2, 3]
    assert batch.info["accuracy/mean"] == 0.75 and batch.info["reward/zero_std_frac"] == 0.5
    fill(desk, 4)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.info["accuracy/mean"] == 0.5  # each group counts in one batch only


def test_batch_deadline_names_what_it_waits_for(desk: Desk) -> None:
    desk.join()
    desk.request(3)
    desk.send(LEARNER, "batch_request", policy_version=0)
    limit = desk.core.config.buffer.wait_timeout_s
    for _ in range(int(limit)):
        desk.send(A, "heartbeat")
        assert desk.tick(1.0) == []
    desk.send(A, "heartbeat")
    ((peer, message),) = desk.tick(1.0)
    assert (peer, message.values["error"]) == (LEARNER, "DeadlineError")
    assert message.values["text"] == (
        "no batch for version 0 in 600 s: waits for 2 more groups to close; 2 are live; "
        "actors: actor_000 (0 free)"
    )
    assert isinstance(desk.core.error, DeadlineError)


def test_version_row_has_the_promised_names(desk: Desk) -> None:
    desk.join()
    leases = desk.request(4)
    by_level: dict[int, list[float]] = {}
    for lease in leases:
        total = 1.0 if lease.group_id == 0 else float(lease.member)
        by_level.setdefault(lease.level, []).append(total)
        desk.finish(lease, total)
    desk.send(LEARNER, "batch_request", policy_version=0)
    desk.now = 10.0
    desk.train(version=1, step=1)
    ((stream, row),) = desk.rows
    assert stream == "buffer"
    expected = {
        "step": 1,
        "policy_version": 1,
        "groups/closed": 2,
        "groups/zero_variance": 1,
        "groups/expired": 0,
        "groups/live": 0,
        "groups/kept": 0,
        "reward/mean": 0.75,
        "reward/zero_std_frac": 0.5,
        "accuracy/mean": 0.75,
        "completion_length/mean": 1.0,
        "buffer/samples_per_insert": 1.0,
        "leases/granted": 4,
        "leases/suspended": 0,
        "leases/revoked": 0,
        "tokens/received": 4,
        "wire/rejected": 0,
        "groups/failed": 0,
        "reward/errors": 0,
        "reward/timeouts": 0,
    }
    assert {name: row[name] for name in expected} == expected
    assert 0.0 <= row["admission/blocked_frac"] <= 1.0
    for level in (1, 2, 3):
        totals = by_level.get(level)
        mean = sum(totals) / len(totals) if totals else None
        assert row.get(f"accuracy/level_{level}") == mean
    desk.train(version=2, step=2)
    assert desk.rows[1][1]["groups/closed"] == 0  # counted from zero again


def test_leases_go_to_the_emptiest_actor_so_prefetching_starves_nobody(desk: Desk) -> None:
    desk.join()
    desk.join(B, index=1)
    eight = desk.request(8)  # all that version 0 admits
    assert desk.request(2, received=8) == [] == desk.request(5, peer=B)
    for lease in eight[:4]:
        desk.finish(lease, float(lease.member))
    desk.send(LEARNER, "batch_request", policy_version=0)
    sent = desk.train(version=1, step=1)  # admits four more
    shares = {to: len(read_leases(message)) for to, message in sent if message.kind == "leases"}
    assert shares == {B: 3, A: 1}


@pytest.mark.parametrize("prefetch", [0, 3])
def test_blocked_time_is_that_with_free_slots_and_nothing_admitted(prefetch: int) -> None:
    desk = Desk(make_config(staleness={"eta": 1}, actors={"prefetch": prefetch}))
    desk.join()
    desk.request(8)
    desk.request(prefetch, received=8)  # nothing more is admitted; all of its slots are busy
    desk.now = 2.0
    desk.request(prefetch + 1, received=8)
    desk.now = 6.0
    desk.request(prefetch, received=8)
    desk.now = 7.0
    desk.request(0, received=8)
    desk.now = 10.0
    desk.train(version=1, step=1)
    assert desk.rows[0][1]["admission/blocked_frac"] == pytest.approx(0.4)


def test_group_deadline_in_versions_acts_at_the_publish() -> None:
    desk = Desk(
        make_config(
            buffer={"group_size": 3, "group_deadline_versions": 2, "min_rollouts": 2},
            learner={"groups_per_update": 1},
        )
    )
    desk.join()
    leases = desk.request(3)
    for lease in leases[:2]:
        desk.finish(lease, float(lease.member))
    desk.send(LEARNER, "batch_request", policy_version=0)
    assert kinds(desk.train(version=1, step=1)) == [(LEARNER, "ok")]
    sent = desk.train(version=2, step=2)
    assert (LEARNER, "batch") in kinds(sent)
    assert batch_of(sent).rollout_ids.tolist() == [0, 1]
    segment = make_segment([1], rollout_id=leases[2].rollout_id)
    assert kinds(desk.handle(A, write_segment(segment))) == [(A, "revoked")]


def test_forced_staleness_trains_tokens_of_that_age() -> None:
    """`staleness.force=2`: the actors sample from version v - 2 while the learner is at v."""
    desk = Desk(
        make_config(
            mode="sync",
            staleness={"eta": 0, "force": 2},
            learner={"groups_per_update": 1},
            actors={"max_concurrent": 2, "count": 1},
        )
    )
    desk.join()
    received = 0
    for version in range(5):
        leases = desk.request(2, received=received)
        received += len(leases)
        for lease in leases:
            desk.finish(lease, float(lease.member), version=max(0, version - 2))
        batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=version))
        assert batch.mask.all() and set(batch.versions.tolist()) == {max(0, version - 2)}
        desk.train(version=version + 1, step=version + 1)


def test_finish_revokes_what_is_in_flight_and_stops_the_actors(desk: Desk) -> None:
    desk.join()
    desk.join(B, 1)
    leases = desk.request(3)
    sent = desk.send(LEARNER, "finish", policy_version=0)
    revoked = [m.values["rollout_id"] for peer, m in sent if (peer, m.kind) == (A, "revoked")]
    assert revoked == [lease.rollout_id for lease in leases]
    assert kinds(sent)[3:] == [(LEARNER, "finished"), (A, "stop"), (B, "stop")]
    assert desk.core.finished and not desk.core.book.rollouts
    assert desk.request(5, received=3) == []


# -- eval ------------------------------------------------------------------------------------


def eval_desk(**sections: Any) -> Desk:
    desk = Desk(make_config(eval={"every": 2}, **sections), num_eval=4)
    desk.join()
    return desk


def answer_eval(
    desk: Desk, leases: list[Lease], totals: list[float], versions: list[int]
) -> list[tuple[bytes, Message]]:
    sent: list[tuple[bytes, Message]] = []
    for lease, total, version in zip(leases, totals, versions, strict=True):
        sent = desk.finish(lease, total, version=version, format=1.0)
    return sent


def test_eval_row_against_slow_python() -> None:
    desk = eval_desk()
    leases = desk.request(4)
    assert {lease.kind for lease in leases} == {LeaseKind.EVAL}
    assert [lease.prompt_id for lease in leases] == [f"eval/{i}" for i in range(4)]
    assert {lease.temperature for lease in leases} == {0.0}
    assert {lease.token_budget for lease in leases} == {0}
    desk.now = 7.0
    answer_eval(desk, leases, [1.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    ((stream, row),) = desk.rows
    assert stream == "eval"
    accuracy = 3 / 4
    deviation = (accuracy * (1 - accuracy) / 4) ** 0.5
    assert row.pop("eval/accuracy/ci95") == pytest.approx(1.96 * deviation)
    assert row == {
        "step": 0,
        "policy_version": 0,
        "policy_version_max": 1,
        "eval/accuracy": accuracy,
        "eval/accuracy/level_1": 1.0,  # prompts 0 and 3
        "eval/accuracy/level_2": 0.0,
        "eval/accuracy/level_3": 1.0,
        "eval/format": 1.0,
        "eval/task_reward/mean": accuracy,
        "eval/completion_length/mean": 1.0,
        "eval/clip_frac": 0.0,
        "eval/num_prompts": 4,
        "eval/reward_errors": 0,
        "time/eval_s": 7.0,
    }


def test_rewards_outside_of_0_and_1_leave_accuracy_a_share() -> None:
    """Functions of the user's may score -1 and 1, or give fractions."""
    desk = eval_desk()
    answer_eval(desk, desk.request(4), [-1.0, -1.0, 2.0, 0.3], [0] * 4)
    ((_, row),) = desk.rows
    assert row["eval/accuracy"] == 1 / 4 and row["eval/task_reward/mean"] == pytest.approx(0.075)
    assert row["eval/accuracy/ci95"] == pytest.approx(1.96 * (3 / 64) ** 0.5)


def test_eval_is_neither_journaled_nor_trained() -> None:
    desk = eval_desk(learner={"groups_per_update": 1})
    leases = desk.request(6)
    assert [lease.kind for lease in leases] == ["eval"] * 4 + ["generate"] * 2
    answer_eval(desk, leases[:4], [1, 0, 1, 0], [0] * 4)
    assert not [m for m in desk.journal.messages if m.kind in ("segment", "score")]
    for lease in leases[4:]:
        desk.finish(lease, float(lease.member))
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.rollout_ids.tolist() == [lease.rollout_id for lease in leases[4:]]
    assert batch.info["accuracy/mean"] == 0.5


def test_evals_at_every_other_version_and_the_last() -> None:
    desk = eval_desk()
    received, measured = 0, []
    for version in range(6):
        if version:
            desk.train(version=version, step=version)
        leases = [lease for lease in desk.request(4, received=received)]
        received += len(leases)
        evals = [lease for lease in leases if lease.kind is LeaseKind.EVAL]
        if evals:
            measured.append(version)
            answer_eval(desk, evals, [1.0] * 4, [version] * 4)
        for lease in leases[len(evals) :]:
            desk.finish(lease, 1.0, version=version)
    assert measured == [0, 2, 4]
    sent = desk.send(LEARNER, "finish", policy_version=5)
    assert (LEARNER, "finished") not in kinds(sent)
    leases = [lease for _, m in sent if m.kind == "leases" for lease in read_leases(m)]
    leases += desk.request(4 - len(leases), received=received + len(leases))
    sent = answer_eval(desk, leases, [0.0] * 4, [5] * 4)
    assert kinds(sent) == [(LEARNER, "finished"), (A, "stop")]
    assert desk.rows[-1][1]["policy_version"] == 5


def test_a_version_already_measured_is_not_measured_again_at_the_end() -> None:
    desk = eval_desk()
    answer_eval(desk, desk.request(4), [1.0] * 4, [0] * 4)
    sent = desk.send(LEARNER, "finish", policy_version=0)
    assert kinds(sent) == [(LEARNER, "finished"), (A, "stop")]


@pytest.mark.parametrize("waiting", ["batch_request", "finish", None])
def test_eval_deadline_tells_whoever_waits(waiting: str | None) -> None:
    desk = eval_desk(actors={"dead_after_s": 1e6})
    answer_eval(desk, desk.request(3), [1.0] * 3, [0] * 3)
    if waiting:
        desk.send(LEARNER, waiting, policy_version=0)
    sent = desk.tick(desk.core.config.eval.timeout_s + 1)
    assert kinds(sent) == ([(LEARNER, "error")] if waiting else [])
    assert isinstance(desk.core.error, DeadlineError)
    assert str(desk.core.error).startswith(
        "eval of version 0 took more than 300 s: 1 of 4 rollouts missing; actors: actor_000"
    )


def test_eval_first_in_sync_mode_even_with_an_unscored_rollout() -> None:
    """Its actor died between the last segment and the score: nothing may wait for that."""
    desk = Desk(
        make_config(
            mode="sync",
            staleness={"eta": 0},
            eval={"every": 1},
            learner={"groups_per_update": 1},
            actors={"max_concurrent": 4, "count": 1},
        ),
        num_eval=2,
    )
    desk.join()
    answer_eval(desk, desk.request(4), [1.0] * 2, [0] * 2)
    leases = desk.request(4, received=2)
    assert {lease.kind for lease in leases} == {LeaseKind.GENERATE}
    segment = make_segment(
        [1],
        finish=FinishReason.STOP,
        rollout_id=leases[0].rollout_id,
        lease_epoch=leases[0].lease_epoch,
    )
    desk.handle(A, write_segment(segment))
    desk.send(A, "bye")
    desk.train(version=1, step=1)
    desk.join(B, 1)
    evals = desk.request(4, peer=B)
    assert [lease.kind for lease in evals] == [LeaseKind.EVAL] * 2
