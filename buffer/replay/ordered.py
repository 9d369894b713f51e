"""Selectors that take the first items of an order: by id, or by priority."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Order = Callable[[int, float], float]  # of an item by id and log-weight; the lowest goes first


class Ordered:
    """The items that are first in an order; ties go by id. A draw is certain of them.

    A heap in which items that left or changed stay until they come up, or are half of it.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._log_weights: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._log_weights)

    def insert(self, item_id: int, log_weight: float = 0.0) -> None:
        assert item_id not in self._log_weights, item_id
        self._put(item_id, log_weight)

    def remove(self, item_id: int) -> None:
        del self._log_weights[item_id]
        self._tidy()

    def update(self, item_ids: Sequence[int], log_weights: Sequence[float]) -> None:
        for item_id, log_weight in zip(item_ids, log_weights, strict=True):
            before = self._log_weights[item_id]
            self._log_weights[item_id] = log_weight
            if self._order(item_id, log_weight) != self._order(item_id, before):
                self._put(item_id, log_weight)
        self._tidy()

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        assert count <= len(self), (count, len(self))
        found: dict[int, tuple[float, int]] = {}
        while len(found) < count:
            entry = heapq.heappop(self._heap)
            if self._is_current(entry):
                found[entry[1]] = entry
        for entry in found.values():
            heapq.heappush(self._heap, entry)
        return list(found), np.ones(count)

    def check_valid(self) -> tuple[bool, str]:
        current = {entry[1] for entry in self._heap if self._is_current(entry)}
        if current != self._log_weights.keys():
            return False, f"heap has {sorted(current)}, items are {sorted(self._log_weights)}"
        if len(self._heap) > 2 * len(self) + 8:
            return False, f"{len(self._heap)} entries for {len(self)} items"
        return True, ""

    def state_dict(self) -> dict[str, Any]:
        return {
            "item_ids": np.fromiter(self._log_weights, np.int64),
            "log_weights": np.fromiter(self._log_weights.values(), np.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._log_weights, self._heap = {}, []
        pairs = zip(state["item_ids"], state["log_weights"], strict=True)
        for item_id, log_weight in pairs:
            self._put(int(item_id), float(log_weight))

    def _put(self, item_id: int, log_weight: float) -> None:
        self._log_weights[item_id] = log_weight
        heapq.heappush(self._heap, (self._order(item_id, log_weight), item_id))

    def _is_current(self, entry: tuple[float, int]) -> bool:
        order, item_id = entry
        log_weight = self._log_weights.get(item_id)
        return log_weight is not None and self._order(item_id, log_weight) == order

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._log_weights) + 8:
            self._heap = [(self._order(*item), item[0]) for item in self._log_weights.items()]
            heapq.heapify(self._heap)


def fifo() -> Ordered:
    """The lowest ids first: with ids in lease order, consumption in lease order."""
    return Ordered(lambda item_id, _: item_id)


def lifo() -> Ordered:
    """The highest ids first: what was leased last."""
    return Ordered(lambda item_id, _: -item_id)


def lowest_priority() -> Ordered:
    """What a prioritized sampler would take with the least probability first."""
    return Ordered(lambda _, log_weight: log_weight)
