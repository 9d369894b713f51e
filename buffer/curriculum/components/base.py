"""What the components of a mixture have in common."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from buffer.curriculum.draw import Draw
from buffer.curriculum.posterior import Float64
from buffer.curriculum.protocol import Outcome


class Component:
    """A way to choose prompts. What it does not override does nothing."""

    name: str

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        """Up to `count` prompts that are free, different ones; fewer if it finds no more.

        Whoever asks opens each prompt before asking for the next.
        """
        raise NotImplementedError

    def opened(self, prompt: int, num_drawn: int) -> None:
        """The prompt was drawn, by whatever component, as number `num_drawn`, from 1."""

    def observe(self, outcome: Outcome) -> None:
        """A group closed, whoever drew it."""

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Scored(Component):
    """Draws with probability proportional to a score of the candidates."""

    def __init__(self) -> None:
        self._effective = 0.0

    def scores(self, draw: Draw) -> Float64:
        """Of each candidate, >= 0."""
        raise NotImplementedError

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        scores = self.scores(draw)
        squares = float(np.square(scores).sum())
        self._effective = float(scores.sum()) ** 2 / squares if squares else 0.0
        yield from draw.proportional(scores, count)

    def metrics(self) -> dict[str, float]:
        if not self._effective:
            return {}
        return {f"curriculum/effective_prompts/{self.name}": self._effective}
