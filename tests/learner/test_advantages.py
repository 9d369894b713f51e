import numpy as np
import pytest

from async_r1.advantages import group_centred
from learner.advantages import normalise


def centred(*groups: list[float]) -> tuple[np.ndarray, np.ndarray]:
    advantages = np.concatenate([group_centred(rewards) for rewards in groups])
    index = np.repeat(np.arange(len(groups), dtype=np.int32), [len(g) for g in groups])
    return advantages, index


def test_batch_scale_is_the_deviation_over_all_rollouts() -> None:
    advantages, groups = centred([1, 0, 0, 0], [1, 1, 1, 0])
    scaled = normalise(advantages, groups, "batch")
    assert scaled == pytest.approx(advantages / advantages.std(), rel=1e-4)


def test_batch_scale_ignores_groups_without_variance() -> None:
    lively, groups = centred([1, 0, 0, 0])
    diluted, more_groups = centred([1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0])
    expected = normalise(lively, groups, "batch")
    actual = normalise(diluted, more_groups, "batch")
    assert actual[:4] == pytest.approx(expected)
    assert not actual[4:].any()


def test_group_scale_is_the_unbiased_deviation_of_each_group() -> None:
    rewards = [[1.0, 0.0, 0.0, 0.0], [2.0, 0.5, 0.0, 1.0]]
    advantages, groups = centred(*rewards)
    scaled = normalise(advantages, groups, "group")
    expected = np.concatenate([(np.array(r) - np.mean(r)) / np.std(r, ddof=1) for r in rewards])
    assert scaled == pytest.approx(expected, rel=1e-4)


def test_none_leaves_them_alone() -> None:
    advantages, groups = centred([1, 0], [1, 1])
    assert normalise(advantages, groups, "none").tolist() == advantages.tolist()


@pytest.mark.parametrize("mode", ["batch", "group", "none"])
def test_equal_rewards_and_single_rollouts_are_finite(mode) -> None:
    advantages, groups = centred([1, 1, 1], [0.5], [0, 0])
    assert not normalise(advantages, groups, mode).any()


@pytest.mark.parametrize("mode", ["batch", "group"])
def test_survivors_of_a_group_keep_its_baseline(mode) -> None:
    # The members that failed were dropped on the way; those left have equal rewards and are good.
    advantages, groups = np.array([0.5, 0.5], np.float32), np.zeros(2, np.int32)
    scaled = normalise(advantages, groups, mode)
    assert (scaled > 0).all() and (scaled < 2).all()
