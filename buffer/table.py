"""The table: closed groups under a sampler, a remover and a rate limiter (Reverb's vocabulary)."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from buffer.rate_limiters import SamplesPerInsert
from buffer.selectors import Selector

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw(Generic[T]):
    """Items taken together, with each one's probability of being in the draw."""

    item_ids: list[int]
    items: list[T]
    inclusion_probs: list[float]


@dataclass(frozen=True, slots=True)
class Removed(Generic[T]):
    """An item that left without reaching `max_times_sampled`."""

    item_id: int
    item: T
    times_sampled: int


@dataclass(slots=True)
class Table(Generic[T]):
    """Items by id; every id is in the sampler and the remover exactly while it is here."""

    sampler: Selector
    remover: Selector
    rate_limiter: SamplesPerInsert
    max_size: int
    max_times_sampled: int
    _items: dict[int, T] = field(default_factory=dict)
    _times_sampled: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> dict[int, T]:
        """Items by id, oldest insert first."""
        return dict(self._items)

    def insert(self, item_id: int, item: T) -> Removed[T] | None:
        """Add an item; returns the one that a full table gave up for it, if any."""
        assert item_id not in self._items, item_id
        removed = None
        if len(self._items) >= self.max_size:
            (victim,), _ = self.remover.select(1, np.random.default_rng(0))
            removed = self.remove(victim)
        self._items[item_id] = item
        self._times_sampled[item_id] = 0
        self.sampler.insert(item_id)
        self.remover.insert(item_id)
        self.rate_limiter.inserted()
        return removed

    def remove(self, item_id: int) -> Removed[T]:
        """Take an item out without sampling it."""
        self.sampler.remove(item_id)
        self.remover.remove(item_id)
        return Removed(item_id, self._items.pop(item_id), self._times_sampled.pop(item_id))

    def sample(self, count: int, rng: np.random.Generator) -> Draw[T]:
        """Draw distinct items; those sampled `max_times_sampled` times leave."""
        assert 0 < count <= len(self._items) and self.rate_limiter.can_sample(count)
        item_ids, probs = self.sampler.select(count, rng)
        items = [self._items[item_id] for item_id in item_ids]
        self.rate_limiter.sampled(count)
        for item_id in item_ids:
            self._times_sampled[item_id] += 1
            if self._times_sampled[item_id] >= self.max_times_sampled:
                self.remove(item_id)
        return Draw(item_ids, items, [float(prob) for prob in probs])

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if len(self._items) > self.max_size:
            return False, f"{len(self._items)} items, more than {self.max_size}"
        if self._items.keys() != self._times_sampled.keys():
            return False, "counts and items differ"
        if any(times >= self.max_times_sampled for times in self._times_sampled.values()):
            return False, "an item outlived its samples"
        return True, ""
