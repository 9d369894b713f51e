"""Easy, normal and hard prompts by their estimated success, a weight for each kind."""

import numpy as np

from async_r1.config_curriculum import PoolsConfig
from buffer.curriculum.components.base import Scored
from buffer.curriculum.draw import Draw
from buffer.curriculum.posterior import Float64


class Pools(Scored):
    name = "pools"

    def __init__(self, options: PoolsConfig) -> None:
        super().__init__()
        self._options = options

    def scores(self, draw: Draw) -> Float64:
        options, mean = self._options, draw.mean
        weights = np.where(mean <= options.hard_at, options.hard, options.normal)
        return np.where(mean >= options.easy_at, options.easy, weights)
