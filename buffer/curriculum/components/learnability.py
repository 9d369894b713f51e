"""Learnability p(1 - p): the variance of the reward, to which a policy gradient's step is bound
(SFL, arXiv 2408.15099; LILO, arXiv 2502.12272)."""

import numpy as np

from async_r1.config_curriculum import LearnabilityConfig
from buffer.curriculum.components.base import Scored
from buffer.curriculum.draw import Draw
from buffer.curriculum.posterior import Float64


class Learnability(Scored):
    name = "learnability"

    def __init__(self, options: LearnabilityConfig) -> None:
        super().__init__()
        self._power = options.power

    def scores(self, draw: Draw) -> Float64:
        variance = draw.success * (1.0 - draw.success)
        return variance if self._power == 1.0 else np.power(variance, self._power)
