"""Sums of an array at every scale, so that one weight changes or is found in a few small steps."""

import numpy as np
from numpy.typing import NDArray

FANOUT = 32

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class SumTree:
    """Weights with the sums of runs of 32, of 32 runs, and so on: a few numpy calls per level
    serve any number of updates or look-ups at once.

    Sums are always added up anew from what is below, so no error accumulates.
    """

    def __init__(self, weights: Array) -> None:
        """Takes over a copy of the weights [N]; further places count as zero."""
        self._build(weights)

    @property
    def leaves(self) -> Array:
        """The weights [capacity], zeros behind the last; not to be written to."""
        return self._levels[0]

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    def set(self, places: Places, weights: Array) -> None:
        """Change the weights at some places, which may be new ones behind the last."""
        if len(places) and int(places.max()) >= len(self.leaves):
            grown = np.zeros(2 * int(places.max()) + 2)
            grown[: len(self.leaves)] = self.leaves
            self._build(grown)
        self._levels[0][places] = weights
        parents = places
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            parents = np.unique(parents // FANOUT) if len(parents) > 1 else parents // FANOUT
            above[parents] = below.reshape(-1, FANOUT)[parents].sum(axis=1)

    def find(self, targets: Array, scale: float, each: float, count: int) -> Places:
        """The places at which the running sum of `scale * weight + each` first exceeds the targets.

        Args:
            targets: below the sum over all items [n].
            each: added to every one of the first `count` places.
        """
        left = targets
        nodes = np.zeros(len(targets), np.int64)
        children = np.arange(FANOUT)
        rows = np.arange(len(targets))
        width = FANOUT ** (len(self._levels) - 1)  # leaves under a node
        for level in reversed(self._levels):
            below = nodes[:, None] * FANOUT + children
            mass = scale * level[below]
            if each:
                mass += each * np.clip(count - below * width, 0, width)
            sums = np.cumsum(mass, axis=1)
            left = np.minimum(left, np.nextafter(sums[:, -1], -1.0))  # rounding: stay inside
            child = (sums <= left[:, None]).sum(axis=1)
            left = left - np.where(child > 0, sums[rows, child - 1], 0.0)
            nodes = nodes * FANOUT + child
            width //= FANOUT
        return nodes

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            sums = below.reshape(-1, FANOUT).sum(axis=1)
            if not np.array_equal(sums, above[: len(sums)]) or above[len(sums) :].any():
                return False, "a sum is not that of its children"
        return True, ""

    def _build(self, weights: Array) -> None:
        self._levels = [_padded(weights)]
        while len(self._levels[-1]) > FANOUT:
            self._levels.append(_padded(self._levels[-1].reshape(-1, FANOUT).sum(axis=1)))


def _padded(values: Array) -> Array:
    """A copy, with zeros up to a multiple of FANOUT."""
    padded = np.zeros(max(1, -(-len(values) // FANOUT)) * FANOUT)
    padded[: len(values)] = values
    return padded
