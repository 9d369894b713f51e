"""Groups: when they close, who expires, and what the advantages are."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.groups import ClosePolicy, Group, close
from buffer.rollout import Rollout, RolloutState
from tests.buffer.fakes import closed_group, lease_to, make_prompt, scored_rollout


def group_of(num_scored: int, size: int = 4, opened_version: int = 2) -> Group:
    """A group opened at second 10, of which some are scored; rewards are 0, 1, 2, …"""
    members = [scored_rollout(i, member=i, total=float(i)) for i in range(num_scored)]
    for i in range(num_scored, size):
        rollout = Rollout(rollout_id=i, group_id=0, member=i, prompt=make_prompt(0))
        if i % 2:
            lease_to(rollout)
        members.append(rollout)
    return Group(
        group_id=0,
        prompt=make_prompt(0),
        members=members,
        opened_version=opened_version,
        opened_at=10.0,
    )


def test_may_close() -> None:
    """All scored, or past a deadline (5 s, 3 versions) with at least two of them."""
    for deadline_s, deadline_versions in product([0.0, 5.0], [0, 3]):
        policy = ClosePolicy(2, deadline_s, deadline_versions)
        for num_scored, now, version in product(range(5), [10.0, 14.9, 15.0, 99.0], [2, 4, 5, 9]):
            late = (deadline_s and now - 10.0 >= 5.0) or (deadline_versions and version - 2 >= 3)
            expected = num_scored == 4 or (bool(late) and num_scored >= 2)
            group = group_of(num_scored)
            assert policy.may_close(group, version=version, now=now) == expected


@pytest.mark.parametrize("num_scored", range(5))
@pytest.mark.parametrize("equal", [None, 0.0, 1.0])
def test_may_grow(num_scored: int, equal: float | None) -> None:
    """Opened with 4 of 8: it grows if all are scored, some right and some wrong, unless a deadline
    (3 versions) has passed and those scored suffice to train."""
    for min_rollouts, version in product([2, 4, 6], [2, 4, 5, 9]):
        group = group_of(num_scored)
        group.size = 8
        for i, rollout in enumerate(group.scored):
            rollout.rewards = {"task": float(i % 2) if equal is None else equal, "total": 0.0}
        policy = ClosePolicy(min_rollouts, 0.0, 3)
        due = version >= 5
        grows = num_scored == 4 and equal is None and not (due and min_rollouts <= 4)
        assert policy.may_grow(group, version=version, now=0.0) is grows
        group.size = 4  # it has all that it is to have
        assert not policy.may_grow(group, version=version, now=0.0)


def test_screened_out_is_judged_on_the_task_and_not_on_the_total() -> None:
    for size, tasks, expected in [
        (4, [1, 1], True),
        (4, [0, 0], True),
        (4, [0, 1], False),  # closed at a deadline
        (2, [1, 1], False),
    ]:
        members = [scored_rollout(i, total=float(i), task=task) for i, task in enumerate(tasks)]
        group = Group(
            group_id=0,
            prompt=make_prompt(0),
            members=members,
            opened_version=0,
            opened_at=0.0,
            size=size,
        )
        closed = close(group, min_rollouts=2)
        assert closed.screened_out is expected and not closed.zero_variance


def test_late_members_expire_and_do_not_count() -> None:
    group = group_of(2)
    closed = close(group)
    assert [rollout.rollout_id for rollout in closed.rollouts] == [0, 1]
    assert closed.num_expired == 2
    assert closed.rewards.tolist() == [0, 1] and closed.advantages.tolist() == [-0.5, 0.5]
    assert [rollout.state for rollout in group.members[2:]] == [RolloutState.EXPIRED] * 2
    assert all(rollout.holder is None for rollout in group.members)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=9))
def test_advantages_are_rewards_minus_their_mean(totals: list[float]) -> None:
    group = closed_group(0, totals)
    mean = sum(totals) / len(totals)
    for reward, advantage, total in zip(group.rewards, group.advantages, totals, strict=True):
        assert reward == np.float32(total)
        assert abs(advantage - (total - mean)) <= 1e-6 * max(1.0, *map(abs, totals))
    assert group.zero_variance == (len(set(totals)) == 1 or max(totals) - min(totals) < 1e-9)


def test_zero_variance_is_judged_on_the_total_not_on_the_task() -> None:
    assert not closed_group(0, [1.0, 1.1], tasks=[1, 1]).zero_variance
    group = closed_group(0, [1.0, 1.0], tasks=[1, 0])
    assert group.zero_variance and group.task_rewards.tolist() == [1, 0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=8), st.integers(0, 1000))
def test_shuffle_keeps_the_rewards_and_their_rollouts(totals: list[int], seed: int) -> None:
    members = [scored_rollout(i, member=i, total=float(t)) for i, t in enumerate(totals)]
    group = Group(
        group_id=0, prompt=make_prompt(0), members=members, opened_version=0, opened_at=0.0
    )
    closed = close(group, np.random.default_rng(seed))
    assert sorted(closed.rewards.tolist()) == sorted(totals)
    assert [rollout.rollout_id for rollout in closed.rollouts] == list(range(len(totals)))
    assert closed.task_rewards.tolist() == totals  # the curriculum sees the truth
    mean = sum(totals) / len(totals)
    assert np.allclose(closed.advantages, closed.rewards - mean, atol=1e-6)


def test_shuffle_cuts_the_tie_between_reward_and_rollout() -> None:
    moved = 0
    for seed in range(200):
        members = [scored_rollout(i, member=i, total=float(i)) for i in range(4)]
        group = Group(
            group_id=0, prompt=make_prompt(0), members=members, opened_version=0, opened_at=0.0
        )
        moved += int(close(group, np.random.default_rng(seed)).rewards[0] != 0.0)
    assert 120 < moved < 180  # 3 of 4 times, give or take five deviations


def test_oldest_version() -> None:
    group = group_of(0, opened_version=4)
    assert group.oldest_version == 0  # two members were leased at version 0
    for rollout in group.members:
        rollout.leased_version = 7
    assert group.oldest_version == 4
    closed = closed_group(0, [0, 1], versions=[[3, 4], [2, 2]])
    assert closed.oldest_version == 2
