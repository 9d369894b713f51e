"""The table: items under a sampler, a remover and a rate limiter (Reverb's vocabulary)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from buffer.rate_limiters import SamplesPerInsert
from buffer.replay.protocol import Selector

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draw(Generic[T]):
    """Items taken together, with each one's probability of being in the draw."""

    item_ids: list[int]
    items: list[T]
    inclusion_probs: list[float]
    times_sampled: list[int] = field(default_factory=list)  # of each, this draw included
    population: int = 0  # items in the table before the draw


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

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._items

    def items(self) -> dict[int, T]:
        """Items by id, oldest insert first."""
        return dict(self._items)

    def insert(self, item_id: int, item: T, log_weight: float = 0.0) -> Removed[T] | None:
        """Add an item; returns the one that a full table gave up for it, if any."""
        removed = self._make_room()
        self._put(item_id, item, 0, log_weight)
        self.rate_limiter.inserted()
        return removed

    def remove(self, item_id: int) -> Removed[T]:
        """Take an item out without sampling it."""
        self.sampler.remove(item_id)
        self.remover.remove(item_id)
        return Removed(item_id, self._items.pop(item_id), self._times_sampled.pop(item_id))

    def update(self, item_ids: Sequence[int], log_weights: Sequence[float]) -> None:
        """Change the priorities of items that are here."""
        self.sampler.update(item_ids, log_weights)
        self.remover.update(item_ids, log_weights)

    def sample(self, count: int, rng: np.random.Generator) -> Draw[T]:
        """Draw distinct items; those sampled `max_times_sampled` times leave."""
        assert 0 < count <= len(self._items) and self.rate_limiter.can_sample(count)
        item_ids, probs = self.sampler.select(count, rng)
        return self.take(item_ids, [float(prob) for prob in probs])

    def take(self, item_ids: list[int], inclusion_probs: list[float]) -> Draw[T]:
        """What `sample` does once it has chosen."""
        items, population = [self._items[item_id] for item_id in item_ids], len(self._items)
        self.rate_limiter.sampled(len(item_ids))
        times = []
        for item_id in item_ids:
            self._times_sampled[item_id] += 1
            times.append(self._times_sampled[item_id])
            if times[-1] >= self.max_times_sampled:
                self.remove(item_id)
        return Draw(item_ids, items, inclusion_probs, times, population)

    def times_sampled(self, item_id: int) -> int:
        return self._times_sampled[item_id]

    def untake(self, draw: Draw[T], log_weights: Mapping[int, float]) -> list[Removed[T]]:
        """Undo a draw that nobody trained: each item counts as sampled once less, and those that
        left because of it come back. Those that left later, for another reason, stay away.

        Args:
            log_weights: of those that come back.

        Returns:
            Items that a table which filled up in the meantime gave up for them.
        """
        self.rate_limiter.unsampled(len(draw.item_ids))
        removed = []
        for item_id, item, times in zip(draw.item_ids, draw.items, draw.times_sampled, strict=True):
            if item_id in self._items:
                self._times_sampled[item_id] -= 1
            elif times >= self.max_times_sampled:
                if victim := self._make_room():
                    removed.append(victim)
                self._put(item_id, item, times - 1, log_weights[item_id])
        return removed

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if len(self._items) > self.max_size:
            return False, f"{len(self._items)} items, more than {self.max_size}"
        if self._items.keys() != self._times_sampled.keys():
            return False, "counts and items differ"
        if not len(self.sampler) == len(self.remover) == len(self._items):
            return False, "sampler, remover and items differ"
        if any(not 0 <= times < self.max_times_sampled for times in self._times_sampled.values()):
            return False, "an item outlived its samples"
        for selector in (self.sampler, self.remover):
            valid, problem = selector.check_valid()
            if not valid:
                return False, problem
        return True, ""

    def state_dict(self) -> dict[str, Any]:
        """All but the items themselves."""
        return {
            "item_ids": np.fromiter(self._items, np.int64),
            "times_sampled": np.asarray([self._times_sampled[i] for i in self._items], np.int32),
            "sampler": self.sampler.state_dict(),
            "remover": self.remover.state_dict(),
            "rate_limiter": self.rate_limiter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], items: Mapping[int, T]) -> None:
        """`items` has those of the state, by id."""
        ids = state["item_ids"].tolist()
        self._items = {item_id: items[item_id] for item_id in ids}
        self._times_sampled = dict(zip(ids, state["times_sampled"].tolist(), strict=True))
        self.sampler.load_state_dict(state["sampler"])
        self.remover.load_state_dict(state["remover"])
        self.rate_limiter.load_state_dict(state["rate_limiter"])

    def _make_room(self) -> Removed[T] | None:
        if len(self._items) < self.max_size:
            return None
        (victim,), _ = self.remover.select(1, np.random.default_rng(0))
        return self.remove(victim)

    def _put(self, item_id: int, item: T, times_sampled: int, log_weight: float) -> None:
        assert item_id not in self._items, item_id
        self._items[item_id] = item
        self._times_sampled[item_id] = times_sampled
        self.sampler.insert(item_id, log_weight)
        self.remover.insert(item_id, log_weight)
