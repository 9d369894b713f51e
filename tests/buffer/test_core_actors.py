"""The buffer's protocol towards its actors, message by message."""

import pytest

from async_r1.messages import read_leases
from async_r1.segment_messages import write_segment
from async_r1.wire import Message
from tests.buffer.desk import LEARNER, A, B, Desk, batch_of, kinds
from tests.buffer.fakes import make_config, make_segment


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
        assert (ack.kind, dict(ack.values)) == ("ack", {"segments": [(0, 1, 0)]})
    journaled = [m for m in desk.journal.messages if m.kind == "segment"]
    assert len(journaled) == 1
    assert desk.core.stats.counts["wire/duplicates"] == 2
    assert desk.core.stats.tokens_received == 2


def test_segments_of_a_granted_lease_are_never_refused_for_space() -> None:
    """A full table, and a credit that one segment exceeds: what was leased is taken all the same,
    and the table makes room by its remover."""
    desk = Desk(
        make_config(
            buffer={"max_size": 2, "group_size": 2},
            actors={"credit_bytes": 65536, "max_concurrent": 64},
            task={"max_new_tokens": 9000},
            staleness={"eta": 5},
        )
    )
    desk.join()
    leases = desk.request(100)
    assert len(leases) == 24  # what admission lets into the system: (0 + 5 + 1) * 2 groups of 2
    for number, lease in enumerate(leases):
        desk.finish(lease, float(number % 2), num_tokens=9000)  # asserts that it is acknowledged
    counts = desk.core.stats.counts
    assert (counts["groups/closed"], counts["groups/removed"]) == (12, 10)
    assert counts["wire/rejected"] == 0 and desk.core.stats.tokens_received == 24 * 9000


def test_a_round_acknowledges_every_peer_once(desk: Desk) -> None:
    for index, peer in enumerate((A, B)):
        desk.join(peer, index)
    leases = {peer: desk.request(1, peer=peer)[0] for peer in (A, B)}

    def segment(peer: bytes, number: int) -> tuple[bytes, Message]:
        rollout_id = leases[peer].rollout_id
        return peer, write_segment(
            make_segment([number], prefix=range(number), rollout_id=rollout_id)
        )

    received = [segment(A, 0), segment(B, 0), segment(A, 1), segment(A, 1), segment(A, 3)]
    sent = desk.core.handle_all(received, desk.now)
    assert kinds(sent) == [(A, "ack"), (B, "ack"), (A, "error")]
    assert [m.values["segments"] for _, m in sent[:2]] == [[(0, 1, 0), (0, 1, 1), (0, 1, 1)],
                                                            [(1, 1, 0)]]  # fmt: skip
    ((_, again),) = desk.core.handle_all([segment(A, 2)], desk.now)
    assert again.values["segments"] == [(0, 1, 2)]  # and not those of the round before


def test_a_failed_journal_acknowledges_nothing(desk: Desk) -> None:
    desk.join()
    (lease,) = desk.request(1)

    def fail(message: Message, **_: object) -> None:
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
