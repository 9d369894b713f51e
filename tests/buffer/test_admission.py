"""Slots: the horizon, short batches, refills and refunds, against lists written out by hand."""

from typing import Any

import numpy as np
import pytest

from buffer.admission import Admission


def make(groups_per_draw: int = 2, **values: Any) -> Admission:
    options = {"draws_per_version": 1, "eta": 1, "refill_max": 0, **values}
    return Admission(groups_per_draw=groups_per_draw, **options)


def lease(admission: Admission, version: int) -> int:
    """Lease as many groups as are admitted."""
    count = 0
    while admission.admits(version):
        admission.opened()
        count += 1
    return count


@pytest.mark.parametrize(
    ("batch", "draws", "eta", "ratio", "expected"),
    [  # groups leased in all by versions 0, 1, 2
        (4, 1, 0, 1.0, [4, 8, 12]),
        (4, 1, 1, 1.0, [8, 12, 16]),
        (4, 2, 0, 1.0, [8, 16, 24]),
        (3, 2, 3, 1.0, [24, 30, 36]),
        (4, 1, 1, 2.0, [4, 6, 8]),
    ],
)
def test_horizon(batch: int, draws: int, eta: int, ratio: float, expected: list[int]) -> None:
    admission = make(batch, draws_per_version=draws, eta=eta, samples_per_insert=ratio)
    totals, total = [], 0
    for version in range(3):
        total += lease(admission, version)
        totals.append(total)
    assert totals == expected


def test_quota_is_the_groups_leased_first_and_untrained_ones_make_it_short() -> None:
    admission = make(groups_per_draw=3)
    for group_id, usable in [(4, True), (1, False), (2, True), (5, True), (0, True)]:
        if usable:
            admission.closed_usable(group_id)
        else:
            admission.closed_untrained(group_id)
    assert admission.quota() == [0, 1, 2] and admission.draw_size() == 2
    admission.drawn([0, 2])
    assert admission.closed == {4, 5} and admission.usable == {4, 5}
    assert admission.quota() == [] and admission.draw_size() == 0 and admission.num_missing == 1


def test_a_draw_frees_no_slot_but_the_next_version_does() -> None:
    admission = make(groups_per_draw=2, eta=0)
    assert lease(admission, 0) == 2
    for group_id in range(2):
        admission.closed_usable(group_id)
    admission.drawn([0, 1])
    assert lease(admission, 0) == 0 and lease(admission, 1) == 2


def test_refills_give_slots_back_up_to_a_bound_per_draw() -> None:
    admission = make(groups_per_draw=2, eta=0, refill_max=1)
    assert lease(admission, 0) == 2
    for _ in range(2):  # refill_max * B of them
        admission.closed_untrained(group_id=7)
        assert not admission.closed and lease(admission, 0) == 1
    admission.closed_untrained(group_id=8)
    assert admission.closed == {8} and lease(admission, 0) == 0
    admission.closed_usable(group_id=9)
    admission.drawn([9])
    assert lease(admission, 1) == 2
    admission.closed_untrained(group_id=10)  # after a draw, refills begin again
    assert lease(admission, 1) == 1


def test_barren_quota_is_given_back_whole() -> None:
    admission = make(groups_per_draw=2)
    assert lease(admission, 0) == 4
    admission.closed_untrained(1)
    assert not admission.refund_barren_quota()
    admission.closed_untrained(2)
    admission.closed_usable(3)
    assert admission.refund_barren_quota()
    assert admission.closed == {3} and lease(admission, 0) == 2
    admission.closed_untrained(0)
    assert not admission.refund_barren_quota()  # group 3 makes it worth a draw
    assert admission.draw_size() == 1


def test_kept_groups_hold_their_slot_until_they_left() -> None:
    admission = make(groups_per_draw=2, samples_per_insert=2.0, eta=1)
    assert lease(admission, 0) == 2
    for group_id in range(2):
        admission.closed_usable(group_id)
    admission.drawn([])  # both stay for a second draw
    assert admission.quota() == [0, 1]
    admission.drawn([0, 1])
    assert not admission.closed


def test_what_an_unusable_group_can_not_serve_is_given_back() -> None:
    """With 3 samples per insert, a group that never trains fills one of its three places."""
    for times_sampled, given_back in [(0, 2 / 3), (1, 1 / 3), (2, 0.0), (3, 0.0)]:
        admission = make(samples_per_insert=3.0)
        admission.opened()
        admission.closed_usable(0)
        admission.became_unusable(0, times_sampled)
        assert abs(admission.leased - (1 - given_back)) < 1e-12


def test_what_a_full_table_gave_up_comes_back_when_a_draw_lacks_it() -> None:
    admission = make(groups_per_draw=2, eta=0, samples_per_insert=1.0)
    assert lease(admission, 0) == 2
    for group_id in range(2):
        admission.closed_usable(group_id)
    admission.gave_up(0, times_sampled=0)
    assert lease(admission, 0) == 0
    admission.relieve()
    assert lease(admission, 0) == 1  # one group closed, one live: nothing lacks
    admission.relieve()
    assert lease(admission, 0) == 0 and admission.evicted == 0
    admission.closed_usable(2)
    admission.gave_up(1, times_sampled=1)  # it owed nothing any more
    admission.relieve()
    assert lease(admission, 0) == 0


def test_undrawn_gives_a_draw_back() -> None:
    admission = make(groups_per_draw=2, eta=3)
    lease(admission, 0)
    for group_id, usable in ((0, True), (1, False), (2, True), (3, True)):
        if usable:
            admission.closed_usable(group_id)
        else:
            admission.closed_untrained(group_id)
    before = admission.state_dict()
    untrained = admission.drawn([2])
    assert untrained == [1] and admission.closed == {0, 3}
    admission.undrawn([2], untrained, gone=0)
    after = admission.state_dict()
    assert sorted(after.pop("closed")) == sorted(before.pop("closed")) and after == before
    admission.undrawn([], [], gone=1)
    assert lease(admission, 0) == 1


def test_state_round_trips() -> None:
    rng = np.random.default_rng(0)
    admission = make(groups_per_draw=3, refill_max=1)
    for group_id in range(20):
        admission.opened()
        if rng.random() < 0.5:
            admission.closed_untrained(group_id)
        else:
            admission.closed_usable(group_id)
        if size := admission.draw_size():
            usable = [g for g in admission.quota() if g in admission.usable]
            assert len(usable) == size
            admission.drawn(usable)
        restored = make(groups_per_draw=3, refill_max=1)
        restored.load_state_dict(admission.state_dict())
        assert restored == admission
