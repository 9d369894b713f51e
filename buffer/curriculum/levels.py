"""Difficulty labels of the prompts, and the prompts in order of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.tasks.protocol import Prompt

_SMALL = 4096  # positions of which all are looked at


class Levels:
    """Each prompt's label as the index of a distinct level, in 1 or 2 bytes."""

    def __init__(self, labels: NDArray[Any]) -> None:
        """`labels` [num_prompts], larger is harder."""
        self.values, codes = np.unique(labels, return_inverse=True)
        self.code: NDArray[Any] = codes.astype(np.min_scalar_type(len(self.values) - 1))
        self._order: NDArray[np.int32] | None = None

    @property
    def order(self) -> NDArray[np.int32]:
        """Prompts from the easiest to the hardest; 4 bytes each, made at the first use."""
        if self._order is None:
            self._order = np.argsort(self.code, kind="stable").astype(np.int32)
        return self._order

    def edges(self) -> NDArray[np.int64]:
        """Where each level starts in `order`, and where the last ends [num_levels + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.code, minlength=len(self.values)))])

    def pick(self, low: int, high: int, count: int, draw: Any) -> Iterator[int]:
        """Up to `count` free prompts, equally likely, of positions low to high - 1 in `order`.

        The caller opens each before it asks for the next.
        """
        if high - low > _SMALL:
            for _ in range(4):  # most are free; if not, all are looked at
                for prompt in self.order[draw.rng.integers(low, high, 2 * count)].tolist():
                    if not count:
                        return
                    if draw.free(np.asarray([prompt]))[0]:
                        yield prompt
                        count -= 1
        prompts = self.order[low:high]
        free = prompts[draw.free(prompts)]
        yield from draw.rng.permutation(free)[:count].tolist()


def labels_of(prompts: Sequence[Prompt]) -> NDArray[Any]:
    """The level of each prompt, without making the prompts if their sequence knows a way."""
    levels = getattr(prompts, "levels", None)
    if levels is not None:
        return np.asarray(levels())
    return np.fromiter((prompt.level for prompt in prompts), np.int64, len(prompts))
