"""The buffer's protocol towards its learner: batches, versions, deadlines, the end."""

import numpy as np
import pytest

from async_r1.errors import DeadlineError
from async_r1.segment_messages import write_segment
from tests.buffer.desk import LEARNER, A, B, Desk, batch_of, fill, kinds
from tests.buffer.fakes import make_config, make_segment


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
    named = {"group_ids": [0, 1], "request": 0, "rollout_ids": [[0, 1], [2, 3]], "left": {}}
    assert [m.values for m in drawn] == [{"batch_id": 1, "version": 0, **named}]
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


def test_a_learner_that_asks_for_nothing_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(make_config(staleness={"eta": 0}, buffer={"wait_timeout_s": 60.0}))
    desk.join()
    fill(desk, 4)
    batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    for _ in range(2):
        desk.tick(61.0)
    (record,) = [r for r in caplog.records if "asked for nothing" in r.message]
    assert record.message == (
        "the learner asked for nothing in 61 s; nothing more is leased before version 1: 2 groups "
        "were leased, 0 items wait; batches being trained: 1"
    )
    assert desk.core.error is None


def test_a_new_learner_gets_what_the_old_one_held() -> None:
    desk = Desk(make_config(buffer={"sampler": "prioritized"}, staleness={"eta": 2}))
    desk.join()
    fill(desk, 8)
    first = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    held = [first.batch_id]
    second = batch_of(desk.send(LEARNER, "batch_request", policy_version=0, holding=held))
    assert not set(first.item_ids.tolist()) & set(second.item_ids.tolist())
    assert not desk.core.drawing.table.items()
    held = [second.batch_id]
    third = batch_of(desk.send(LEARNER, "batch_request", policy_version=0, holding=held))
    assert set(third.item_ids.tolist()) == set(first.item_ids.tolist())
    refunded = [m.values for m in desk.journal.messages if m.kind == "draw_refunded"]
    assert refunded == [{"batch_id": first.batch_id}]
    (draw, *_) = [m for m in desk.journal.messages if m.kind == "draw"]
    assert draw.arrays["inclusion_probs"].dtype == np.float32
    assert sorted(draw.arrays["item_ids"].tolist()) == sorted(set(first.item_ids.tolist()))


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
