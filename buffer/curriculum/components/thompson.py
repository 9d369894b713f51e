"""MoPPS (arXiv 2507.04632): a draw from each candidate's posterior; those nearest to the target."""

from collections.abc import Iterator

from async_r1.config_curriculum import ThompsonConfig
from buffer.curriculum.components.base import Component
from buffer.curriculum.draw import Draw


class Thompson(Component):
    name = "thompson"

    def __init__(self, options: ThompsonConfig) -> None:
        self._target = options.target

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        yield from draw.greatest(2.0 - (draw.thompson - self._target) ** 2, count)
