"""The order of an epoch, without keeping it: entry by entry, in constant memory.

A Feistel network over an even number of bits permutes 0 to 4^n - 1; what it maps beyond the number
of prompts is mapped again until it falls below (cycle walking; Black and Rogaway 2002). Few prompts
are permuted the plain way, where keeping the order costs nothing.
"""

import numpy as np
from numpy.typing import NDArray

KEPT = 1 << 16  # prompts of which the order is kept
_ROUNDS = 6


class Permutation:
    """A permutation of 0 to size - 1 that follows from seed and epoch."""

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        assert size > 0
        self._size = size
        rng = np.random.default_rng([seed, epoch])
        self._order = rng.permutation(size) if size <= KEPT else None
        self._half = max(1, (int(size - 1).bit_length() + 1) // 2)  # bits
        self._keys = rng.integers(0, 1 << 63, _ROUNDS, dtype=np.uint64)

    def entries(self, start: int, stop: int) -> NDArray[np.int64]:
        """Entries start to stop - 1."""
        assert 0 <= start <= stop <= self._size
        if self._order is not None:
            return self._order[start:stop]
        values = np.arange(start, stop, dtype=np.uint64)
        values = self._network(values)
        outside = np.flatnonzero(values >= self._size)
        while len(outside):
            values[outside] = self._network(values[outside])
            outside = outside[values[outside] >= self._size]
        return values.astype(np.int64)

    def _network(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half = np.uint64(self._half)
        mask = np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (mix(right ^ key) & mask)
        return (left << half) | right


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits that each depend on all bits of the value (the finaliser of SplitMix64; Steele et al.
    2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
