"""Prioritized sampling of Kimi k1.5 (arXiv 2501.12599, section 2.3.4): p proportional to 1 - s.

The paper leaves open what becomes of prompts that are always solved, and of those that never are.
Here the former keep a floor; the latter, which would get the most (J.2 of the evidence in
docs/curriculum.md: it chases the impossible), are multiplied down.
"""

import numpy as np

from async_r1.config_curriculum import KimiPriorityConfig
from async_r1.types import UInt8
from buffer.curriculum.components.base import Scored
from buffer.curriculum.draw import Draw
from buffer.curriculum.posterior import Float64


class KimiPriority(Scored):
    name = "kimi_priority"

    def __init__(self, options: KimiPriorityConfig, unsolved: UInt8) -> None:
        """`unsolved` [num_prompts]: trials in a row without success, at most 255."""
        super().__init__()
        self._options = options
        self._unsolved = unsolved

    def scores(self, draw: Draw) -> Float64:
        options = self._options
        scores = np.maximum(1.0 - draw.success, options.floor)
        never = draw.success <= options.min_success
        if options.unsolved_trials:
            never |= self._unsolved[draw.candidates] >= options.unsolved_trials
        scores[never] *= options.unsolved_weight
        return scores
