"""Every prompt once per epoch."""

from collections.abc import Iterator

from buffer.curriculum.components.base import Component
from buffer.curriculum.draw import Draw
from buffer.curriculum.walk import Walk


class Uniform(Component):
    name = "uniform"

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        for _ in range(count):
            prompt = self._walk.next()
            if prompt is None:
                return
            yield prompt

    def metrics(self) -> dict[str, float]:
        return {"curriculum/uniform/epoch": self._walk.epochs}
