"""A sequence of prompts that are made when they are read."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import overload

from async_r1.tasks.protocol import Prompt


class LazyPrompts(Sequence[Prompt]):
    """`make(position)` for each position; keeps nothing."""

    def __init__(
        self,
        size: int,
        make: Callable[[int], Prompt],
        *,
        slow: bool = False,
        levels: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """`make` takes 0 to size - 1, and gives the same prompt each time.

        Args:
            slow: a prompt may take a tenth of a second.
            levels: the level of every prompt, in a sequence or an array; without it, who wants to
                know makes all prompts.
        """
        self.slow = slow
        self.levels = levels
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, position: int) -> Prompt: ...
    @overload
    def __getitem__(self, position: slice) -> "LazyPrompts": ...
    def __getitem__(self, position: int | slice) -> "Prompt | LazyPrompts":
        chosen = range(self._size)[position]
        if isinstance(chosen, range):
            make, levels = self._make, self.levels
            return LazyPrompts(
                len(chosen),
                lambda p: make(chosen[p]),
                slow=self.slow,
                levels=None if levels is None else partial(_take, levels, chosen),
            )
        return self._make(chosen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _take(levels: Callable[[], Sequence[int]], positions: range) -> list[int]:
    known = levels()
    return [known[position] for position in positions]


def some_prompts(prompts: Sequence[Prompt], limit: int, slow_limit: int = 100) -> Iterator[Prompt]:
    """The first prompts, for a check at the start of a run: fewer where making them takes long."""
    return islice(prompts, slow_limit if getattr(prompts, "slow", False) else limit)
