"""Live groups that have become too old for the bound: noticed, and under `drop` let go at once."""

import pytest

from async_r1.segment_messages import write_segment
from tests.buffer.desk import LEARNER, A, Desk, batch_of, kinds
from tests.buffer.fakes import make_config, make_segment


def started_desk(overdue: str, **buffer: object) -> Desk:
    """One group of two a draw, eta = 1. Of group 0 the first member has a token of version 0."""
    desk = Desk(
        make_config(
            learner={"groups_per_update": 1},
            staleness={"eta": 1, "overdue": overdue},
            buffer=buffer,
        )
    )
    desk.join()
    leases = desk.request(4)
    desk.handle(A, write_segment(make_segment([5], rollout_id=0)))
    for lease in leases[2:]:
        desk.finish(lease, float(lease.member))
    return desk


def train(desk: Desk, version: int) -> list[tuple[bytes, str]]:
    batch_of(desk.send(LEARNER, "batch_request", policy_version=version - 1))
    return kinds(desk.train(version=version, step=version))


@pytest.mark.parametrize("overdue", ["drop", "mask"])
def test_noticed_when_no_draw_to_come_could_train_all_of_it(overdue: str) -> None:
    desk = started_desk(overdue)
    counts = desk.core.stats.counts
    train(desk, 1)
    assert not counts["staleness/in_flight_overdue"]  # it could still train at version 1
    for lease in desk.request(4, received=4):
        desk.finish(lease, float(lease.member), version=1)
    sent = train(desk, 2)
    row, counts = desk.rows[-1][1], desk.core.stats.counts
    assert counts["staleness/in_flight_overdue"] + row["staleness/in_flight_overdue"] == 1
    if overdue == "mask":
        assert 0 in desk.core.book.groups and (A, "revoked") not in sent
        assert desk.core.book.groups[0].overdue
    else:
        assert 0 not in desk.core.book.groups
        assert sent.count((A, "revoked")) == 2  # whoever samples for it hears so at once
        answers = desk.handle(A, write_segment(make_segment([6], prefix=[5], rollout_id=0)))
        assert kinds(answers) == [(A, "revoked")]


def test_its_place_is_given_to_another_group() -> None:
    for refill_max in (0, 1):
        desk = started_desk("drop", refill_max=refill_max)
        train(desk, 1)
        for lease in desk.request(4, received=4):
            desk.finish(lease, float(lease.member), version=1)
        train(desk, 2)
        opened = len([m for m in desk.journal.messages if m.kind == "group_opened"])
        # By a refill, or because nothing else was in its quota.
        assert opened - desk.core.drawing.admission.leased == 1


def test_members_that_a_deadline_leaves_behind_are_revoked_at_once() -> None:
    desk = Desk(
        make_config(
            buffer={"group_size": 3, "group_deadline_versions": 1, "min_rollouts": 2},
            learner={"groups_per_update": 1},
        )
    )
    desk.join()
    leases = desk.request(3)
    for lease in leases[:2]:
        desk.finish(lease, float(lease.member))
    sent = desk.train(version=1, step=1)
    revoked = [m.values for peer, m in sent if (peer, m.kind) == (A, "revoked")]
    assert revoked == [{"rollout_id": 2, "lease_epoch": 1}]
