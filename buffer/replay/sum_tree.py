"""Sums of an array at every scale, so that one weight changes or is found in a few small steps."""

import numpy as np
from numpy.typing import NDArray

FANOUT = 32
MAX_TOP = 16_384  # sums of the highest level, which a look-up adds up from the first to the last

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class SumTree:
    """Weights with the sums of runs of 32, of 32 runs, and so on up to a level that is searched as
    it is: a few numpy calls per level serve any number of updates or look-ups at once.

    Sums are always added up anew from what is below, so no error accumulates.
    """

    def __init__(self, weights: Array) -> None:
        """Takes over a copy of the weights [N]; further places count as zero."""
        self._build(weights)

    @property
    def leaves(self) -> Array:
        """The weights [capacity], zeros behind the last; not to be written to."""
        return self._levels[0].reshape(-1)

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    def set(self, places: Places, weights: Array) -> None:
        """Change the weights at some places, which may be new ones behind the last."""
        if len(places) and int(places.max()) >= self._levels[0].size:
            grown = np.zeros(2 * int(places.max()) + 2)
            grown[: len(self.leaves)] = self.leaves
            self._build(grown)
        self.leaves[places] = weights
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            places = places // FANOUT  # twice the same is as good as once
            above.reshape(-1)[places] = below[places].sum(axis=1)

    def find(self, targets: Array, scale: float, each: float) -> Places:
        """The places at which the running sum of `scale * weight + each` first exceeds the targets.

        Args:
            targets: ascending, below the sum over all items [n].
            each: added to every place.
        """
        width = FANOUT ** (len(self._levels) - 1)  # places under an entry of the top level
        sums = np.cumsum(scale * self._levels[-1].reshape(-1) + each * width)
        targets = np.minimum(targets, np.nextafter(sums[-1], -1.0))  # rounding: stay inside
        nodes = np.searchsorted(sums, targets, side="right")
        left = targets - np.where(nodes > 0, sums[nodes - 1], 0.0)
        rows = np.arange(len(targets))
        for level in reversed(self._levels[:-1]):
            width //= FANOUT
            sums = np.cumsum(scale * level[nodes] + each * width, axis=1)
            left = np.minimum(left, np.nextafter(sums[:, -1], -1.0))
            child = (sums <= left[:, None]).sum(axis=1)
            left = left - np.where(child > 0, sums[rows, child - 1], 0.0)
            nodes = nodes * FANOUT + child
        return np.asarray(nodes, np.int64)

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            sums, kept = below.sum(axis=1), above.reshape(-1)
            if not np.array_equal(sums, kept[: len(sums)]) or kept[len(sums) :].any():
                return False, "a sum is not that of its children"
        return True, ""

    def _build(self, weights: Array) -> None:
        self._levels = [_rows(weights)]
        while self._levels[-1].size > MAX_TOP:
            self._levels.append(_rows(self._levels[-1].sum(axis=1)))


def _rows(values: Array) -> Array:
    """A copy in rows of FANOUT, filled up with zeros."""
    rows = np.zeros((max(1, -(-len(values) // FANOUT)), FANOUT))
    rows.reshape(-1)[: len(values)] = values
    return rows
