"""A double-ended queue of prompt indices in one array: 4 bytes each, not an object each."""

import numpy as np
from numpy.typing import NDArray


class IndexQueue:
    """First in, first out; what was taken too early goes back to the front."""

    def __init__(self) -> None:
        self._ring = np.zeros(16, np.int32)
        self._start = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> int:
        assert self._size
        return int(self._ring[self._start])

    def push(self, index: int) -> None:
        self._make_room()
        self._ring[(self._start + self._size) % len(self._ring)] = index
        self._size += 1

    def push_front(self, index: int) -> None:
        self._make_room()
        self._start = (self._start - 1) % len(self._ring)
        self._ring[self._start] = index
        self._size += 1

    def pop(self) -> int:
        index = self.first
        self._start = (self._start + 1) % len(self._ring)
        self._size -= 1
        return index

    def remove(self, index: int) -> None:
        """Take one out: the first, unless a journal that lost records says otherwise."""
        if self.first == index:
            self.pop()
        else:
            indices = self.to_array()
            self.load(indices[indices != index])

    def to_array(self) -> NDArray[np.int32]:
        """From first to last."""
        return np.roll(self._ring, -self._start)[: self._size].copy()

    def load(self, indices: NDArray[np.int32]) -> None:
        self._ring = np.zeros(max(16, len(indices)), np.int32)
        self._ring[: len(indices)] = indices
        self._start, self._size = 0, len(indices)

    def _make_room(self) -> None:
        if self._size == len(self._ring):
            ring = np.zeros(2 * self._size, np.int32)
            ring[: self._size] = self.to_array()
            self._ring, self._start = ring, 0
