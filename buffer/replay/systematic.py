"""Draws without replacement whose inclusion probabilities are exactly what was asked for.

Systematic sampling with probability proportional to size (Madow 1949): the items' probabilities
lie end to end on a line of length n, and the draw takes the items under u, u + 1, ..., u + n - 1
for one uniform u in [0, 1). No item is longer than 1, so none is taken twice, and each is taken
with exactly its own length as probability. Items that are neighbours on the line are rarely taken
together: sums over a draw are unbiased, their variance is not that of independent draws.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def inclusion_probs(weights: Array, count: int) -> Array:
    """min(1, c * w) with the c at which they sum to `count` [N].

    Items whose share of the rest exceeds what one draw can give are certain; if fewer than
    `count` weights are positive, those of zero share what is left.
    """
    assert 0 <= count <= len(weights), (count, len(weights))
    probs = np.zeros(len(weights))
    free = np.ones(len(weights), bool)
    while (left := count - int(np.count_nonzero(~free))) > 0:
        rest = float(weights[free].sum())
        if rest <= 0:
            probs[free] = left / np.count_nonzero(free)
            break
        scaled = weights * (left / rest)
        over = free & (scaled >= 1)
        if not over.any():
            probs[free] = scaled[free]
            break
        free &= ~over
        probs[over] = 1.0
    return probs


def systematic(probs: Array, start: float) -> NDArray[np.int64]:
    """Places of the items drawn [n], ascending; `probs` [N] sum to n, each at most 1.

    Args:
        start: u, in [0, 1).
    """
    cumulative = np.cumsum(probs)
    count = round(float(cumulative[-1])) if len(probs) else 0
    if not count:
        return np.zeros(0, np.int64)
    targets = np.minimum(start + np.arange(count), np.nextafter(cumulative[-1:], -1.0))
    places = np.searchsorted(cumulative, targets, side="right")
    return distinct(places, len(probs))


def distinct(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Ascending places made different and smaller than `size`: rounding can put two targets into
    one item whose probability is 1, or the last target behind the last item."""
    count = np.arange(len(places))
    lowest = np.maximum.accumulate(places - count)
    return np.asarray(np.minimum(lowest, size - len(places)) + count, np.int64)
