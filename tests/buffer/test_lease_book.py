"""Who is leased next: the order by name, and against a slow sort over random books."""

from collections.abc import Callable

import numpy as np
import pytest

from async_r1.types import FinishReason
from buffer.groups import Group
from buffer.lease_book import EVAL_GROUP, LeaseBook
from buffer.rollout import Rollout, RolloutState
from tests.buffer.fakes import lease_to, make_prompt, make_segment
from tests.buffer.naive_leasing import naive_next

VERSION = 5


def nothing() -> None:
    """No new group is admitted."""


def opener(book: LeaseBook, version: int = VERSION) -> Callable[[], Group]:
    return lambda: book.open_group(make_prompt(99), version, 0.0)


def suspend(rollout: Rollout, version: int) -> Rollout:
    lease_to(rollout)
    rollout.release(version)
    return rollout


def finish(rollout: Rollout) -> Rollout:
    """Finished, and its holder gone before it was scored."""
    lease = lease_to(rollout)
    segment = make_segment(
        [1], finish=FinishReason.STOP, rollout_id=rollout.rollout_id, lease_epoch=lease.lease_epoch
    )
    rollout.accept(segment, b"a", 0)
    rollout.release(0)
    return rollout


@pytest.fixture
def book() -> LeaseBook:
    return LeaseBook(group_size=3)


def test_order(book: LeaseBook) -> None:
    """Evaluation, unscored, eligible suspended, pending, a new group, ineligible suspended."""
    first = book.open_group(make_prompt(0), VERSION - 2, 0.0).members
    eligible, unscored = suspend(first[0], VERSION), finish(first[1])
    second = book.open_group(make_prompt(1), VERSION - 1, 0.0).members
    also_eligible = suspend(second[1], VERSION - 1)
    third = book.open_group(make_prompt(2), VERSION, 0.0).members
    ineligible = suspend(third[1], VERSION)
    (evaluation,) = book.open_eval([make_prompt(0, "eval")])
    pending = [first[2], second[0], second[2], third[0], third[2]]
    expected = [evaluation, unscored, eligible, also_eligible, *pending]
    for rollout in expected:
        assert book.next(VERSION, nothing) is rollout
        lease_to(rollout, version=VERSION)
    opened = book.next(VERSION, opener(book))
    assert opened is not None and opened.prompt.prompt_id == "train/99" and opened.member == 0
    for rollout in book.groups[opened.group_id].members:
        lease_to(rollout)
    assert book.next(VERSION, nothing) is ineligible
    lease_to(ineligible)
    assert book.next(VERSION, nothing) is None


def test_suspended_is_eligible_once_the_version_advanced_since_its_group_opened(
    book: LeaseBook,
) -> None:
    group = book.open_group(make_prompt(0), 3, 0.0)
    suspended = suspend(group.members[0], 3)
    assert book.next(3, nothing) is group.members[1]  # a pending member goes first
    assert book.next(4, nothing) is suspended
    suspend(suspended, 4)
    assert book.next(4, nothing) is suspended  # it does not wait for version 5


def test_suspended_eval_and_unscored_eval_go_first(book: LeaseBook) -> None:
    book.open_group(make_prompt(0), 0, 0.0)
    first, second = book.open_eval([make_prompt(0, "eval"), make_prompt(1, "eval")])
    suspend(first, VERSION)
    finish(second)
    assert book.next(VERSION, nothing) is first
    lease_to(first)
    assert book.next(VERSION, nothing) is second


def test_members_of_a_group_share_its_prompt_and_nothing_is_numbered_twice(
    book: LeaseBook,
) -> None:
    groups = [book.open_group(make_prompt(i), 0, 0.0) for i in range(4)]
    evals = book.open_eval([make_prompt(i, "eval") for i in range(3)])
    assert [group.group_id for group in groups] == [0, 1, 2, 3]
    for group in groups:
        assert [rollout.member for rollout in group.members] == [0, 1, 2]
        for rollout in group.members:
            assert (rollout.group_id, rollout.prompt) == (group.group_id, group.prompt)
    assert {rollout.group_id for rollout in evals} == {EVAL_GROUP}
    book.close_group(3)
    members = book.open_group(make_prompt(9), 0, 0.0).members
    everyone = [*(r for g in groups for r in g.members), *evals, *members]
    assert len({rollout.rollout_id for rollout in everyone}) == len(everyone)
    assert members[0].group_id == 4
    assert book.num_live == 4


def test_held_by(book: LeaseBook) -> None:
    members = book.open_group(make_prompt(0), 0, 0.0).members
    lease_to(members[0], b"a")
    lease_to(members[1], b"b")
    assert book.held_by(b"a") == [members[0]]
    assert book.held_by(b"nobody") == []


def end_lease(rollout: Rollout, version: int, rng: np.random.Generator) -> None:
    """Its holder dies in the middle, dies at the end, or scores it."""
    finish = FinishReason.STOP if rng.random() < 0.5 else None
    segment = make_segment(
        [1],
        prefix=rollout.token_ids.tolist(),
        finish=finish,
        lease_epoch=rollout.lease_epoch,
    )
    assert rollout.holder is not None
    rollout.accept(segment, rollout.holder, version)
    if finish and rng.random() < 0.5:
        rollout.score(rollout.lease_epoch, {"task": 1.0, "total": 1.0}, "")
    else:
        rollout.release(version)


def test_random_books_against_the_slow_sort() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(80):
        book, version = LeaseBook(group_size=2), 0
        for _ in range(50):
            version += int(rng.random() < 0.2)
            kind = rng.random()
            assert book.check_valid() == (True, "")
            leased = [r for r in book.rollouts.values() if r.state is RolloutState.LEASED]
            if kind < 0.05:
                book.open_eval([make_prompt(0, "eval")])
            elif kind < 0.1 and book.groups:
                book.close_group(int(rng.choice(list(book.groups))))
            elif kind < 0.15:  # all that a holder has comes back at once
                holder = [b"a", b"b"][int(rng.integers(2))]
                held = [r for r in book.rollouts.values() if r.holder == holder]
                assert book.held_by(holder) == held
                for rollout in held:
                    rollout.release(version)
            elif kind < 0.5 and leased:
                end_lease(leased[int(rng.integers(len(leased)))], version, rng)
            else:
                can_open = bool(rng.random() < 0.5)
                expected = naive_next(book, version, can_open)
                known = set(book.rollouts)
                found = book.next(version, opener(book, version) if can_open else nothing)
                if found is None:
                    assert expected is None
                elif found.rollout_id in known:
                    assert expected == ("rollout", found.rollout_id)
                else:
                    assert expected == ("new", 0) and found.member == 0
                if found is not None:
                    seen.add((found.state, found.group_id == EVAL_GROUP))
                    lease_to(found, [b"a", b"b"][int(rng.integers(2))], version=version)
    states = (RolloutState.PENDING, RolloutState.SUSPENDED, RolloutState.FINISHED)
    assert seen == {(state, kind) for state in states for kind in (False, True)}
