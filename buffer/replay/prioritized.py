"""Items in proportion to their priority, over a floor that is the same for all."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffer.replay.slots import Slots
from buffer.replay.sum_tree import SumTree
from buffer.replay.systematic import distinct, inclusion_probs, systematic

TREE_FROM = (
    10_000  # items from which a draw and its updates are faster in the tree (docs/replay.md)
)
MAX_EXPONENT = 30.0  # weights are kept within exp(+-30) of the largest


class Prioritized:
    """Each draw of n takes item i with probability min(1, c * p_i), exactly (`systematic`), where

        p_i = (1 - uniform_mix) * exp(log_weight_i) / sum of them + uniform_mix / N

    and c is 1 * n unless some p_i exceed 1 / n, whose surplus the others share.

    Log-weights may grow without bound, as those with age decay do: what is stored is
    exp(log_weight - base), and the base moves when exponents grow, which changes no probability.
    Few items are kept in an array whose running sum each draw computes, many in a tree: by
    `tree_from`, with the same draws.
    """

    def __init__(self, uniform_mix: float = 0.0, *, tree_from: int = TREE_FROM) -> None:
        assert 0 <= uniform_mix <= 1, uniform_mix
        self._mix = uniform_mix
        self._tree_from = tree_from
        self._slots = Slots()
        self._keys = np.zeros(16)  # log-weights by place
        self._weights = np.zeros(16)  # exp(key - base) by place; unused while there is a tree
        self._tree: SumTree | None = None
        self._base = -math.inf
        self.uniform_share = 0.0  # of the last draw: how much of it the floor brought

    def __len__(self) -> int:
        return len(self._slots)

    def insert(self, item_id: int, log_weight: float = 0.0) -> None:
        place = self._slots.append(item_id)
        if place == len(self._keys):
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)])
        self._set(np.asarray([place]), np.asarray([log_weight]))
        if self._tree is None and len(self) >= self._tree_from:
            self._tree = SumTree(self._weights[: len(self)])

    def remove(self, item_id: int) -> None:
        place, last = self._slots.pop(item_id), len(self._slots)
        if place != last:
            self._keys[place] = self._keys[last]
            self._store(np.asarray([place]), self.weights[last : last + 1])
        self._store(np.asarray([last]), np.zeros(1))
        if self._tree is not None and len(self) < self._tree_from // 2:
            self._weights[: len(self)] = self._tree.leaves[: len(self)]
            self._weights[len(self) :] = 0.0
            self._tree = None

    def update(self, item_ids: Sequence[int], log_weights: Sequence[float]) -> None:
        places = np.fromiter((self._slots.place(i) for i in item_ids), np.int64)
        self._set(places, np.asarray(log_weights, np.float64))

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        assert count <= len(self), (count, len(self))
        places, probs = self._select(count, float(rng.random()))
        return self._slots.ids[places].tolist(), probs

    @property
    def weights(self) -> NDArray[np.float64]:
        """Relative priorities by place, floor left out [>= N]; not to be written to."""
        return self._weights if self._tree is None else self._tree.leaves

    def probabilities(self) -> NDArray[np.float64]:
        """p of every item, in the order of its place [N]; they sum to 1."""
        count = len(self)
        self._raise_base()
        weights = self.weights[:count]
        shares = weights * ((1 - self._mix) / float(weights.sum())) + self._mix / max(1, count)
        return np.asarray(shares, np.float64)

    def check_valid(self) -> tuple[bool, str]:
        valid, problem = self._slots.check_valid()
        if not valid:
            return False, problem
        count = len(self)
        if not np.allclose(self.weights[:count], np.exp(self._keys[:count] - self._base), 1e-12, 0):
            return False, "a weight is not that of its key"
        if self.weights[count:].any():
            return False, "a weight without an item"
        if count and not self._keys[:count].max() <= self._base + MAX_EXPONENT:
            return False, "an exponent grew too large"
        return self._tree.check_valid() if self._tree is not None else (True, "")

    def state_dict(self) -> dict[str, Any]:
        keys = self._keys[: len(self)].copy()
        return {"item_ids": self._slots.ids.copy(), "log_weights": keys, "base": self._base}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._slots.load(state["item_ids"])
        self._keys = np.concatenate([np.asarray(state["log_weights"], np.float64), np.zeros(16)])
        self._base = float(state["base"])
        self._tree = None
        self._rebuild()

    def _select(self, count: int, start: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        self._raise_base()
        total = len(self)
        if not count:
            return np.zeros(0, np.int64), np.zeros(0)
        scale, each = count * (1 - self._mix) / self._sum(), count * self._mix / total
        places = distinct(
            self._find(np.arange(count, dtype=np.float64) + start, scale, each), total
        )
        probs = scale * self.weights[places] + each
        # Whoever is longer than 1 lies under a target: if none of these is, nobody is.
        if probs.max() < 1:
            self._note_share(each, probs)
            return places, probs
        shares = self.probabilities()
        all_probs = inclusion_probs(shares, count)
        places = systematic(all_probs, start)
        self._note_share(self._mix / total, shares[places])
        return places, all_probs[places]

    def _find(self, targets: NDArray[np.float64], scale: float, each: float) -> NDArray[np.int64]:
        """Where the running sum of `scale * weight + each` first exceeds each target."""
        if self._tree is not None:
            return self._tree.find(targets, scale, each)
        sums = np.cumsum(scale * self._weights[: len(self)] + each)
        targets = np.minimum(targets, np.nextafter(sums[-1], -1.0))  # rounding: stay inside
        return np.asarray(np.searchsorted(sums, targets, side="right"), np.int64)

    def _sum(self) -> float:
        """Of all weights."""
        return self._tree.total if self._tree is not None else float(self._weights.sum())

    def _note_share(self, floor: float, shares: NDArray[np.float64]) -> None:
        self.uniform_share = float(np.mean(floor / shares)) if floor else 0.0

    def _set(self, places: NDArray[np.int64], keys: NDArray[np.float64]) -> None:
        self._keys[places] = keys
        if len(keys) and keys.max() > self._base + MAX_EXPONENT:
            self._base = float(keys.max())
            self._rebuild()
        else:
            self._store(places, np.exp(keys - self._base))

    def _store(self, places: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        if self._tree is None:
            self._weights[places] = weights
        else:
            self._tree.set(places, weights)

    def _raise_base(self) -> None:
        """Lower the base once all that is left is tiny against it."""
        count = len(self)
        if count and self._sum() < math.exp(-MAX_EXPONENT):
            self._base = float(self._keys[:count].max())
            self._rebuild()

    def _rebuild(self) -> None:
        """All weights anew from their keys."""
        count = len(self)
        weights = np.exp(self._keys[:count] - self._base)
        if self._tree is not None or count >= self._tree_from:
            self._tree = SumTree(weights)
        self._weights = np.zeros(len(self._keys))
        self._weights[:count] = weights
