"""Estimates against enumeration, against the equation that defines them, and against coverage."""

import itertools
import math
import random
from statistics import NormalDist

import pytest

from async_r1.pass_at_k import bootstrap_mean, pass_at_k, wilson


@pytest.mark.parametrize("num_samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(num_samples: int) -> None:
    for num_right in range(num_samples + 1):
        outcomes = [1] * num_right + [0] * (num_samples - num_right)
        for k in range(1, num_samples + 1):
            subsets = list(itertools.combinations(outcomes, k))
            share = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(num_samples, num_right, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_is_unbiased() -> None:
    """Its mean over draws of n samples is 1 - (1 - p)^k, which 1 - (1 - c/n)^k would not give."""
    n, k, p = 6, 3, 0.3
    chances = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    mean = sum(chance * pass_at_k(n, c, k) for c, chance in enumerate(chances))
    naive = sum(chance * (1 - (1 - c / n) ** k) for c, chance in enumerate(chances))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    assert abs(naive - mean) > 0.05


@pytest.mark.parametrize(("num_right", "num"), [(0, 10), (3, 10), (10, 10), (81, 263)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_bounds_solve_the_score_equation(
    num_right: int, num: int, confidence: float
) -> None:
    """The bounds are the shares p0 whose test statistic |p - p0| / sqrt(p0 (1 - p0) / n) is z."""
    found = wilson(num_right, num, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    assert found.value == num_right / num
    for bound in (found.low, found.high):
        if bound in (0.0, 1.0):  # the share itself: the statistic has no other root there
            assert bound == found.value
            continue
        deviation = math.sqrt(bound * (1 - bound) / num)
        assert abs(found.value - bound) / deviation == pytest.approx(z, rel=1e-9)


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng, covered = random.Random(0), 0
    for seed in range(100):
        values = [rng.random() ** 2 for _ in range(40)]  # mean 1/3
        found = bootstrap_mean(values, 0.8, seed)
        assert found.value == pytest.approx(sum(values) / 40)
        covered += found.low <= 1 / 3 <= found.high
    assert 68 <= covered <= 90  # sd 4


def test_bootstrap_is_fixed_by_its_seed() -> None:
    values = [0.0, 0.2, 1.0, 0.7, 0.1]
    assert bootstrap_mean(values, 0.95, 3) == bootstrap_mean(values, 0.95, 3)
    assert bootstrap_mean(values, 0.95, 3) != bootstrap_mean(values, 0.95, 4)
    for value in (0.0, 1.0):
        assert bootstrap_mean([value] * 8, 0.95, 0) == wilson(int(8 * value), 8, 0.95)
    assert bootstrap_mean([0.5, 0.5], 0.95, 0).to_dict() == {"value": 0.5, "low": 0.5, "high": 0.5}
