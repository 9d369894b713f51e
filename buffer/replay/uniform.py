"""Every item equally likely."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffer.replay.slots import Slots


class Uniform:
    """Each item is in a draw of n from N with probability n / N, each pair as often as any."""

    def __init__(self) -> None:
        self._slots = Slots()

    def __len__(self) -> int:
        return len(self._slots)

    def insert(self, item_id: int, log_weight: float = 0.0) -> None:
        self._slots.append(item_id)

    def remove(self, item_id: int) -> None:
        self._slots.pop(item_id)

    def update(self, item_ids: Sequence[int], log_weights: Sequence[float]) -> None:
        pass

    def select(self, count: int, rng: np.random.Generator) -> tuple[list[int], NDArray[np.float64]]:
        total = len(self)
        assert count <= total, (count, total)
        places = rng.choice(total, size=count, replace=False, shuffle=False)
        return self._slots.ids[places].tolist(), np.full(count, count / max(1, total))

    def check_valid(self) -> tuple[bool, str]:
        return self._slots.check_valid()

    def state_dict(self) -> dict[str, Any]:
        return {"item_ids": self._slots.ids.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._slots.load(state["item_ids"])
