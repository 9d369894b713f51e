"""The pass over all prompts: every one once per epoch, in an order that seed and epoch fix.

What is in flight when its turn comes is owed, and goes first once it is free; what is retired, or
skipped by the gate, waits for the next epoch. Where the walk stands follows from what was opened:
a prompt that was next counts as visited, whoever drew it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffer.curriculum.permutation import Permutation
from buffer.curriculum.protocol import Indices
from buffer.curriculum.roster import Roster, Status

Passes = Callable[[NDArray[Any], int], NDArray[np.bool_]]  # prompts and a key

_BLOCK = 1024


class Walk:
    """A position in the order of an epoch, and the prompts that are owed."""

    def __init__(
        self, roster: Roster, seed: int, *, skip_in_flight: bool, passes: Passes | None
    ) -> None:
        self._roster = roster
        self._seed = seed
        self._skip = skip_in_flight
        self._passes = passes
        self._size = roster.num_prompts
        self._position = 0  # of all epochs
        self._passed = -1  # the position that the gate let through last
        self._owed: dict[int, None] = {}  # in order
        self._order = Permutation(self._size, seed, 0)
        self._epoch = 0
        self._block_start = -1
        self._block = np.zeros(0, np.int64)

    @property
    def epochs(self) -> float:
        """Passes so far."""
        return self._position / self._size

    def next(self) -> int | None:
        """The next free prompt; None if there is none. Asking twice changes nothing."""
        self._forget_retired()
        if self._owed:
            first = next(iter(self._owed))
            if self._roster.free(first):
                return first
        prompt = int(self._entries(self._position, 1)[0])
        asked = self._passes is None or self._passed == self._position
        if asked and self._roster.free(prompt, skip_in_flight=self._skip):
            return prompt
        return self._scan()

    def any(self) -> int:
        """The next prompt, though it may be in flight or not active."""
        self._forget_retired()
        if self._owed:
            return next(iter(self._owed))
        return int(self._entries(self._position, 1)[0])

    def opened(self, prompt: int) -> None:
        """A prompt was opened; if it was the next, it is done. Called before it is in flight."""
        expected = self.next()
        if prompt != (self.any() if expected is None else expected):
            return
        if self._owed and prompt == next(iter(self._owed)):
            del self._owed[prompt]
        else:
            self._position += 1

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self._position,
            "passed": self._passed,
            "owed": list(self._owed),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position, self._passed = int(state["position"]), int(state["passed"])
        self._owed = dict.fromkeys(int(prompt) for prompt in state["owed"])

    def _forget_retired(self) -> None:
        while self._owed:
            first = next(iter(self._owed))
            if self._roster.status(first) is Status.ACTIVE:
                return
            del self._owed[first]

    def _scan(self) -> int | None:
        """Go on to the next free prompt, if there is one in a whole epoch."""
        if not (self._roster.num_free if self._skip else len(self._roster.active)):
            return None
        position, last, owed = self._position, self._position + self._size, []
        while position < last:
            entries = self._entries(position, 1 if position == self._position else _BLOCK)
            wanted = self._roster.free(entries, skip_in_flight=False)
            if self._passes is not None:
                wanted &= self._passes(entries, position // self._size)
            free = wanted & self._roster.free(entries, skip_in_flight=self._skip)
            first = int(free.argmax()) if free.any() else len(entries)
            owed += entries[:first][wanted[:first]].tolist()
            position += first
            if first < len(entries):
                self._position = self._passed = position
                self._owed.update(dict.fromkeys(owed))
                return int(entries[first])
        return None

    def _entries(self, position: int, count: int) -> Indices:
        """Some prompts from a position on, of one epoch."""
        epoch, start = divmod(position, self._size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, Permutation(self._size, self._seed, epoch)
            self._block_start = -1
        block = start - start % _BLOCK
        if block != self._block_start:
            self._block_start = block
            self._block = self._order.entries(block, min(block + _BLOCK, self._size))
        return self._block[start - block : start - block + count]
