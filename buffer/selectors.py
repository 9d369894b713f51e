"""Which items a draw takes, and with what probability; samplers and removers are selectors."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Selector(Protocol):
    """Chooses among item ids; knows nothing of what they stand for."""

    def insert(self, item_id: int) -> None:
        """Add an item; ids are inserted once."""

    def remove(self, item_id: int) -> None:
        """Forget an item."""

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        """Choose `count` distinct items and give each one's probability of being in the draw."""


class Fifo:
    """The lowest ids first: with group ids in lease order, consumption in lease order."""

    def __init__(self) -> None:
        self._ids: set[int] = set()

    def insert(self, item_id: int) -> None:
        assert item_id not in self._ids, item_id
        self._ids.add(item_id)

    def remove(self, item_id: int) -> None:
        self._ids.remove(item_id)

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        assert count <= len(self._ids)
        return sorted(self._ids)[:count], np.ones(count)


class Uniform:
    """Every item equally likely: each is in a draw of n from N with probability n / N."""

    def __init__(self) -> None:
        self._ids: set[int] = set()

    def insert(self, item_id: int) -> None:
        assert item_id not in self._ids, item_id
        self._ids.add(item_id)

    def remove(self, item_id: int) -> None:
        self._ids.remove(item_id)

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        assert count <= len(self._ids)
        chosen = rng.choice(sorted(self._ids), size=count, replace=False)
        return [int(item) for item in chosen], np.full(count, count / max(1, len(self._ids)))


SELECTORS: dict[str, type[Selector]] = {"fifo": Fifo, "uniform": Uniform}
