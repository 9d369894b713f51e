"""Estimates from samples, each with an interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb, sqrt
from statistics import NormalDist

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A share with its interval.

    Example: 8 of 10 right, at 95 %: `Estimate(0.8, 0.490, 0.943)`.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` samples is right.

    Chen et al. 2021 (arXiv 2107.03374), equation 1: 1 - C(n - c, k) / C(n, k), the share of all
    subsets of k samples that hold a right one.
    """
    assert 0 <= num_right <= num_samples and 1 <= k <= num_samples
    return 1.0 - comb(num_samples - num_right, k) / comb(num_samples, k)


def wilson(num_right: int, num: int, confidence: float) -> Estimate:
    """A share of independent trials with its score interval (Wilson 1927).

    Args:
        num: of trials, at least 1.
        confidence: of the interval, as 0.95.
    """
    assert 0 <= num_right <= num and num > 0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = num_right / num
    scale = 1 + z * z / num
    middle = (share + z * z / (2 * num)) / scale
    half = z * sqrt(share * (1 - share) / num + z * z / (4 * num * num)) / scale
    low = 0.0 if num_right == 0 else middle - half  # exactly, where rounding would leave a trace
    return Estimate(share, low, 1.0 if num_right == num else middle + half)


def bootstrap_mean(values: Sequence[float], confidence: float, seed: int) -> Estimate:
    """A mean with its percentile interval from resampled values (Efron 1979).

    Args:
        values: one of each prompt, at least one: prompts, not samples, are what is independent.
        seed: of the resampling.

    Where all values are 0, or all 1, resampling knows no others: then the score interval.
    """
    array = np.asarray(values, dtype=np.float64)
    assert array.size
    if array.min() == array.max() and array[0] in (0.0, 1.0):
        return wilson(round(array.sum()), array.size, confidence)
    rng = np.random.default_rng(seed)
    means = [
        float(array[rng.integers(array.size, size=array.size)].mean()) for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(array.mean()), float(low), float(high))
