"""Which prompts may be drawn: active ones, those in flight, and the retired ones in their queue."""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffer.curriculum.index_queue import IndexQueue

_INACTIVE, _IN_FLIGHT = 1, 2  # bits of `_hidden`


class Status(IntEnum):
    """Of a prompt."""

    ACTIVE = 0
    RETIRED = 1  # in the queue
    IN_REVIEW = 2  # taken from the queue; its group has not closed


# Plain numbers: the comparison of an enum costs more than all else of an opening.
_ACTIVE, _RETIRED = int(Status.ACTIVE), int(Status.RETIRED)


class Roster:
    """Status of every prompt; the active ones as a list, from which removal is a swap.

    Memory per prompt: 10 bytes, and 4 while it is retired.
    """

    def __init__(self, num_prompts: int) -> None:
        self.num_prompts = num_prompts
        self._hidden = np.zeros(num_prompts, np.uint8)
        self._status = np.zeros(num_prompts, np.uint8)
        self._active = np.arange(num_prompts, dtype=np.int32)
        self._position = np.arange(num_prompts, dtype=np.int32)  # in `_active`
        self._num_active = num_prompts
        self._num_hidden_active = 0
        self.in_flight: dict[int, int] = {}  # groups of each prompt that has any
        self.retired = IndexQueue()

    @property
    def active(self) -> NDArray[np.int32]:
        """Prompts that are not retired, in no order."""
        return self._active[: self._num_active]

    @property
    def num_free(self) -> int:
        """Active prompts that are not in flight."""
        return self._num_active - self._num_hidden_active

    def status(self, prompt: int) -> Status:
        return Status(int(self._status[prompt]))

    def free(self, prompts: Any, *, skip_in_flight: bool = True) -> Any:
        """Whether each is active and, unless that does not matter, not in flight."""
        hidden = self._hidden[prompts]
        return hidden == 0 if skip_in_flight else hidden & _INACTIVE == 0

    def opened(self, prompt: int) -> None:
        """A group of the prompt is in flight; a retired one leaves the queue for it."""
        status = self._status.item(prompt)
        if status == _RETIRED:
            self.retired.remove(prompt)
            self._status[prompt] = Status.IN_REVIEW
        count = self.in_flight[prompt] = self.in_flight.get(prompt, 0) + 1
        if count == 1:
            self._hidden[prompt] |= _IN_FLIGHT
            self._num_hidden_active += status == _ACTIVE

    def landed(self, prompt: int) -> None:
        """A group of the prompt is in flight no more."""
        left = self.in_flight[prompt] - 1
        if left:
            self.in_flight[prompt] = left
            return
        del self.in_flight[prompt]
        self._hidden[prompt] &= ~_IN_FLIGHT & 0xFF
        self._num_hidden_active -= self._status.item(prompt) == _ACTIVE

    def retire(self, prompt: int, *, first: bool = False) -> None:
        """Into the queue: to its end, or to its front if its review told nothing."""
        status = self._status.item(prompt)
        assert status != _RETIRED
        if status == _ACTIVE:
            self._num_hidden_active -= bool(self._hidden[prompt] & _IN_FLIGHT)
            self._num_active -= 1
            place, last = self._position[prompt], self._active[self._num_active]
            self._active[place], self._position[last] = last, place
            self._active[self._num_active], self._position[prompt] = prompt, self._num_active
            self._hidden[prompt] |= _INACTIVE
        self._status[prompt] = Status.RETIRED
        self.retired.push_front(prompt) if first else self.retired.push(prompt)

    def activate(self, prompt: int) -> None:
        """Back from its review."""
        assert self._status[prompt] == Status.IN_REVIEW
        self._status[prompt] = Status.ACTIVE
        self._hidden[prompt] &= ~_INACTIVE & 0xFF
        self._num_hidden_active += bool(self._hidden[prompt] & _IN_FLIGHT)
        place, other = self._position[prompt], self._active[self._num_active]
        self._active[place], self._position[other] = other, place
        self._active[self._num_active], self._position[prompt] = prompt, self._num_active
        self._num_active += 1

    def state_dict(self) -> dict[str, Any]:
        moved = np.flatnonzero(self._active != np.arange(self.num_prompts, dtype=np.int32))
        groups = sorted(self.in_flight.items())
        return {
            "num_active": self._num_active,
            "moved": moved,
            "moved_to": self._active[moved],
            "retired": self.retired.to_array(),
            "in_flight": np.asarray(groups, np.int64).reshape(-1, 2),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__init__(self.num_prompts)  # type: ignore[misc]
        moved = np.asarray(state["moved"])
        self._active[moved] = state["moved_to"]
        self._position[self._active[moved]] = moved
        self._num_active = int(state["num_active"])
        inactive = self._active[self._num_active :]
        self._hidden[inactive] = _INACTIVE
        self._status[inactive] = Status.IN_REVIEW
        self._status[np.asarray(state["retired"])] = Status.RETIRED
        self.retired.load(np.asarray(state["retired"], np.int32))
        for prompt, count in np.asarray(state["in_flight"]).tolist():
            self.in_flight[prompt] = count
            self._hidden[prompt] |= _IN_FLIGHT
            self._num_hidden_active += self._status[prompt] == Status.ACTIVE

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        everyone = np.arange(self.num_prompts)
        if not np.array_equal(self._active[self._position], everyone):
            return False, "a prompt is not where its position says"
        if not np.array_equal(np.sort(self._active), everyone):
            return False, "the active list is no permutation"
        is_active = self._status == Status.ACTIVE
        if set(self.active.tolist()) != set(np.flatnonzero(is_active).tolist()):
            return False, "the active list and the status disagree"
        if not np.array_equal((self._hidden & _INACTIVE) == 0, is_active):
            return False, "the inactive bit and the status disagree"
        flying = np.flatnonzero(self._hidden & _IN_FLIGHT)
        if (
            set(flying.tolist()) != self.in_flight.keys()
            or min(self.in_flight.values(), default=1) < 1
        ):
            return False, f"in flight: {self.in_flight}, bits of {flying.tolist()}"
        if self._num_hidden_active != int(is_active[flying].sum()):
            return False, f"{self._num_hidden_active} active prompts in flight by count"
        queued = self.retired.to_array().tolist()
        if sorted(queued) != np.flatnonzero(self._status == Status.RETIRED).tolist():
            return False, "the queue and the status disagree"
        return True, ""
