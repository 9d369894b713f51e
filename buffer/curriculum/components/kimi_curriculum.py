"""Curriculum sampling of Kimi k1.5 (arXiv 2501.12599, section 2.3.4): easy to hard by label.

Prompts in order of difficulty; the window is a share of them, and its edges move linearly between
the versions at which they are given. The paper's figure 9, uniform and from a version on only hard
ones, is a window of all that narrows within a version.
"""

import math
from collections.abc import Iterator

import numpy as np

from async_r1.config_curriculum import KimiCurriculumConfig
from buffer.curriculum.components.base import Component
from buffer.curriculum.draw import Draw
from buffer.curriculum.levels import Levels


class KimiCurriculum(Component):
    name = "kimi_curriculum"

    def __init__(self, options: KimiCurriculumConfig, levels: Levels) -> None:
        self._windows = options.windows
        self._levels = levels
        self._window = self.window(0)

    def window(self, version: int) -> tuple[float, float]:
        """Shares of the prompts at which the window begins and ends."""
        versions = [window.version for window in self._windows]
        low = np.interp(version, versions, [window.low for window in self._windows])
        high = np.interp(version, versions, [window.high for window in self._windows])
        return float(low), float(high)

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        low, high = self._window = self.window(draw.version)
        size = len(self._levels.code)
        first = min(math.floor(low * size), size - 1)
        yield from self._levels.pick(first, max(math.ceil(high * size), first + 1), count, draw)

    def metrics(self) -> dict[str, float]:
        low, high = self._window
        return {"curriculum/window/low": low, "curriculum/window/high": high}
