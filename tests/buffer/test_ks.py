"""The distance against slow Python over every threshold; the noise against simulation."""

from collections.abc import Sequence

import numpy as np
import pytest

from buffer.ks import FALSE_ALARM, ks_distance, noise


def slow_ks(values: Sequence[float], a: Sequence[float], b: Sequence[float]) -> float:
    """max over x of |F_a(x) - F_b(x)|, by its definition."""

    def share(weights: Sequence[float], x: float) -> float:
        return sum(w for v, w in zip(values, weights, strict=True) if v <= x) / sum(weights)

    return max(abs(share(a, x) - share(b, x)) for x in values)


@pytest.mark.parametrize("seed", range(30))
def test_against_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    values = rng.integers(0, int(rng.integers(1, 40)), n)  # with ties
    a, b = rng.integers(0, 4, n), rng.integers(0, 4, n) * rng.integers(0, 9)
    expected = None if not a.sum() or not b.sum() else pytest.approx(slow_ks(values, a, b))
    assert ks_distance(values, a, b) == expected


def test_closed_forms() -> None:
    assert ks_distance([5, 1, 3], [1, 1, 1], [1, 1, 1]) == 0
    assert ks_distance([1, 2], [1, 0], [0, 1]) == 1
    assert ks_distance([4, 1, 2, 3], [1, 1, 1, 1], [0, 1, 1, 0]) == pytest.approx(0.5)
    assert ks_distance([1, 1, 2, 2], [1, 1, 1, 1], [2, 0, 0, 2]) == 0
    assert ks_distance([1, 2], [1, 1], [0, 0]) is None


def test_the_two_sample_statistic() -> None:
    """With weights 1 for one sample and for the other; scipy 1.17's ks_2samp gives 0.15555…."""
    x, y = [(i * 37) % 101 for i in range(60)], [(i * i * 13) % 89 for i in range(45)]
    first = np.repeat([1, 0], [60, 45])
    assert ks_distance(x + y, first, 1 - first) == pytest.approx(7 / 45, abs=1e-12)


def test_noise_of_groups_that_leave_together_is_the_two_sample_bound() -> None:
    """n of N groups train: sqrt((1 - f) / (f N)) times Kolmogorov's constant."""
    groups = np.repeat(np.arange(100), 8)
    trained = np.repeat(np.arange(100) < 40, 8)
    constant = np.sqrt(np.log(2 / FALSE_ALARM) / 2)
    expected = constant * np.sqrt(0.6 / (0.4 * 100))
    assert noise(groups, np.ones(800), trained) == pytest.approx(expected)
    assert noise(groups, np.ones(800), np.ones(800)) == pytest.approx(0, abs=1e-12)
    assert noise(groups, np.ones(800), np.zeros(800)) == 1
    assert noise([0, 1], [1, 1], [1, 0]) == 1  # two groups prove nothing


@pytest.mark.parametrize("by_token", [False, True])
def test_false_alarms_of_a_filter_that_is_blind_to_length(by_token: bool) -> None:
    """Groups leave by chance. At FALSE_ALARM = 1e-3 two alarms in 2,000 are to be expected at
    most; ten would come once in 10^5 test runs. A filter that looks at the length is caught."""
    rng = np.random.default_rng(3)
    alarms = caught = 0
    groups = np.repeat(np.arange(60), 4)
    for _ in range(2000):
        sizes = np.exp(np.repeat(rng.normal(3, 0.7, 60), 4) + rng.normal(0, 0.3, 240))
        weights = sizes if by_token else np.ones(240)
        trained = weights * np.repeat(rng.random(60) < 0.7, 4)
        distance = ks_distance(sizes, weights, trained)
        assert distance is not None
        alarms += distance > noise(groups, weights, trained)
        short = weights * np.repeat(sizes.reshape(60, 4).mean(1) < 25, 4)
        distance = ks_distance(sizes, weights, short)
        assert distance is not None
        caught += distance > noise(groups, weights, short)
    assert alarms < 10
    assert caught > 1990
