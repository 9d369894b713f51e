"""Item ids in a dense array: an item can be found by its place, and its place by the item."""

import numpy as np
from numpy.typing import NDArray


class Slots:
    """Ids at places 0 to N - 1, in no order; whoever leaves is replaced by the last."""

    def __init__(self) -> None:
        self.ids: NDArray[np.int64] = np.zeros(0, np.int64)  # [N]
        self._capacity = np.zeros(16, np.int64)
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._place

    def place(self, item_id: int) -> int:
        return self._place[item_id]

    def append(self, item_id: int) -> int:
        """Add an item; returns its place."""
        assert item_id not in self._place, item_id
        place = len(self.ids)
        if place == len(self._capacity):
            self._capacity = np.concatenate([self._capacity, np.zeros_like(self._capacity)])
        self._capacity[place] = item_id
        self._place[item_id] = place
        self.ids = self._capacity[: place + 1]
        return place

    def pop(self, item_id: int) -> int:
        """Remove an item; returns the place that the last item moved to (its own, if it was last).

        Raises:
            KeyError: it is not there.
        """
        place, last = self._place.pop(item_id), len(self.ids) - 1
        if place != last:
            moved = int(self._capacity[last])
            self._capacity[place], self._place[moved] = moved, place
        self.ids = self._capacity[:last]
        return place

    def load(self, ids: NDArray[np.int64]) -> None:
        """Take these ids, in their order, in place of all that are here."""
        self._capacity = np.concatenate([np.asarray(ids, np.int64), np.zeros(16, np.int64)])
        self.ids = self._capacity[: len(ids)]
        self._place = {item_id: place for place, item_id in enumerate(self.ids.tolist())}

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if [self._place.get(item_id) for item_id in self.ids.tolist()] != list(range(len(self))):
            return False, "an item is not where its place says"
        if len(self._place) != len(self.ids):
            return False, f"{len(self._place)} places for {len(self.ids)} items"
        return True, ""
