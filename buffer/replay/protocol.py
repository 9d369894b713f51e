"""What a table asks of its sampler and of its remover."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Selector(Protocol):
    """Chooses among item ids; knows nothing of what they stand for.

    `log_weight` is the logarithm of an item's priority, already raised to its exponent; only those
    selectors look at it that go by priority.
    """

    def __len__(self) -> int: ...

    def insert(self, item_id: int, log_weight: float = 0.0) -> None:
        """Add an item; an id is there once."""

    def remove(self, item_id: int) -> None:
        """Forget an item.

        Raises:
            KeyError: it is not there.
        """

    def update(self, item_ids: Sequence[int], log_weights: Sequence[float]) -> None:
        """Change the priorities of items that are there."""

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        """Choose `count` distinct items and give each one's probability of being in the draw."""

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next draws depend on, beside their generator."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
