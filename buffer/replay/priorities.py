"""Priorities of the items in the table, and what becomes of them: age, surprise, beta.

    p_i = product of the factors + epsilon          log-weight_i = alpha * (log p_i + t_i / tau)

t_i is the mean version of the item's tokens and tau the age decay in versions. At version v an item
is worth p_i * exp(-(v - t_i) / tau); exp(-v / tau) is the same for all and cancels, so nothing ever
needs a refresh.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from async_r1.config import Config
from buffer.groups import ClosedGroup
from buffer.replay.factors import known_product


@dataclass(slots=True)
class _Known:
    product: float  # of the factors known at insertion
    time: float  # mean version of the tokens
    surprise: float | None  # None: never trained


class Priorities:
    """The log-weight of every item, from its factors and what the learner wrote back."""

    def __init__(self, config: Config) -> None:
        options = config.buffer.priority
        self._names = options.factors
        self._alpha, self._epsilon = options.alpha, options.epsilon
        self._decay = options.decay_versions
        self._beta0, self._beta1 = options.beta0, options.beta1
        versions = -(-config.learner.num_updates // config.learner.updates_per_publish)
        self._horizon = options.beta_versions or versions
        self._known: dict[int, _Known] = {}
        self._max_surprise = 0.0
        self.takes_surprise = config.buffer.needs_surprise

    def insert(self, item_id: int, item: ClosedGroup, version: int) -> float:
        """Log-weight of a new item."""
        versions = np.concatenate([rollout.versions for rollout in item.rollouts])
        sampled = versions[versions >= 0]
        time = float(sampled.mean()) if len(sampled) else float(item.oldest_version)
        product = known_product(self._names, item, version)
        self._known[item_id] = _Known(product, time, None)
        return self.log_weight(item_id)

    def surprised(self, item_ids: Sequence[int], surprise: Sequence[float]) -> list[int]:
        """Take what the learner wrote back; returns the items that are still known."""
        kept = []
        for item_id, value in zip(item_ids, surprise, strict=True):
            self._max_surprise = max(self._max_surprise, value)
            if (known := self._known.get(item_id)) is not None:
                known.surprise = float(value)
                kept.append(item_id)
        return kept

    def forget(self, item_id: int) -> None:
        """An item left for good."""
        self._known.pop(item_id, None)

    def priority(self, item_id: int) -> float:
        """p of an item, without its age.

        An unknown surprise counts as the largest that was ever written back, and 1 before any was.
        """
        known = self._known[item_id]
        product = known.product
        if self.takes_surprise:
            unknown = self._max_surprise or 1.0
            product *= unknown if known.surprise is None else known.surprise
        return product + self._epsilon

    def log_weight(self, item_id: int) -> float:
        aged = self._known[item_id].time / self._decay if self._decay else 0.0
        return float(self._alpha * (np.log(self.priority(item_id)) + aged))

    def beta(self, version: int) -> float:
        """Exponent of the importance weights, annealed linearly over the versions of the run."""
        done = min(1.0, version / self._horizon)
        return self._beta0 + (self._beta1 - self._beta0) * done

    def check_valid(self, item_ids: Set[int]) -> tuple[bool, str]:
        """Whether the invariants hold with these items alive, and which does not."""
        if self._known.keys() != item_ids:
            return False, f"priorities of {sorted(self._known)}, items {sorted(item_ids)}"
        for item_id, known in self._known.items():
            values = [known.product, known.time, known.surprise or 0.0]
            if not np.isfinite(values).all() or known.product < 0:
                return False, f"item {item_id} has {known}"
        return True, ""

    def state_dict(self) -> dict[str, Any]:
        known = self._known.values()
        return {
            "item_ids": np.fromiter(self._known, np.int64),
            "products": np.asarray([k.product for k in known], np.float64),
            "times": np.asarray([k.time for k in known], np.float64),
            "surprise": np.asarray(
                [-1.0 if k.surprise is None else k.surprise for k in known], np.float64
            ),
            "max_surprise": self._max_surprise,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        columns = [state[name].tolist() for name in ("item_ids", "products", "times", "surprise")]
        self._known = {
            item_id: _Known(product, time, None if surprise < 0 else surprise)
            for item_id, product, time, surprise in zip(*columns, strict=True)
        }
        self._max_surprise = float(state["max_surprise"])
