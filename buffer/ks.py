"""The Kolmogorov-Smirnov distance between two weightings of one sample, and what chance explains.

A filter turns the sample that was generated (weights a) into the one that trained (weights b): b
is 0 for what it left out. The distance is the largest difference of their distribution functions,
max_x |F_a(x) - F_b(x)|, exact for any non-negative weights; with integer weights it is that of the
two-sample test over the values repeated so often.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FALSE_ALARM = 1e-3  # chance that a filter blind to the values passes `noise` [per look]

Float64 = NDArray[np.float64]


def ks_distance(values: ArrayLike, a: ArrayLike, b: ArrayLike) -> float | None:
    """Distance of the distributions of `values` [N] weighted with `a` and with `b` [N].

    None if either weighs nothing.
    """
    x = np.asarray(values, np.float64)
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not first.sum() or not second.sum():
        return None
    order = np.argsort(x, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(x[order])), len(x) - 1)  # last of each distinct value
    gaps = np.cumsum(_shares(first[order]) - _shares(second[order]))
    return float(min(1.0, np.abs(gaps[ends]).max()))


def noise(groups: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """The distance that a filter blind to the values stays below, but for FALSE_ALARM of the time.

    `groups` [N] names the group of each value: those of a group share a prompt and leave together,
    so it is the group, not the rollout, that is drawn by chance. F_a - F_b at x is the sum of
    w_g 1(x_g <= x) with w_g = a_g/sum(a) - b_g/sum(b), a Brownian bridge of variance sum(w_g^2)
    F (1 - F) in the limit; its supremum passes sqrt(sum(w_g^2) ln(2/alpha) / 2) with probability
    alpha at most (the first term of Kolmogorov's series bounds it). For b = 1 on n of N groups
    this is the two-sample test between those that trained and those that did not.
    """
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = [np.bincount(index, np.asarray(w, np.float64)).astype(np.float64) for w in (a, b)]
    if not all(weights.sum() for weights in sums):
        return 1.0
    excess: Float64 = _shares(sums[0]) - _shares(sums[1])
    return min(1.0, math.sqrt(float(excess @ excess) * math.log(2 / FALSE_ALARM) / 2))


def _shares(weights: Float64) -> Float64:
    shares: Float64 = weights / weights.sum()
    return shares
