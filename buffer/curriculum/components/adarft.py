"""AdaRFT (arXiv 2504.05520): train the labels nearest to a target that follows the reward.

    T <- clip(T + eta tanh(alpha (R - beta)), 0, 100),  R the mean task reward of some groups

Labels are the levels, scaled to 0 to 100. Prompts of one level are equally likely.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from async_r1.config_curriculum import AdarftConfig
from buffer.curriculum.components.base import Component
from buffer.curriculum.draw import Draw
from buffer.curriculum.levels import Levels
from buffer.curriculum.protocol import Outcome


class AdaRft(Component):
    name = "adarft"

    def __init__(self, options: AdarftConfig, levels: Levels) -> None:
        self._options = options
        self._levels = levels
        self._edges = levels.edges()
        values = levels.values.astype(np.float64)
        span = values[-1] - values[0]
        self.difficulty = 100.0 * (values - values[0]) / span if span else 0.0 * values
        self.target = options.initial
        self._rewards = 0.0  # sum since the last update
        self._groups = 0

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        for level in np.argsort(np.abs(self.difficulty - self.target), kind="stable"):
            low, high = int(self._edges[level]), int(self._edges[level + 1])
            for prompt in self._levels.pick(low, high, count, draw):
                count -= 1
                yield prompt
            if not count:
                return

    def observe(self, outcome: Outcome) -> None:
        self._rewards += outcome.reward
        self._groups += 1
        if self._groups < self._options.groups:
            return
        options, mean = self._options, self._rewards / self._groups
        change = options.step * math.tanh(options.sensitivity * (mean - options.target_reward))
        self.target = min(max(self.target + change, 0.0), 100.0)
        self._rewards, self._groups = 0.0, 0

    def metrics(self) -> dict[str, float]:
        return {"curriculum/adarft/target": self.target}

    def state_dict(self) -> dict[str, Any]:
        return {"target": self.target, "rewards": self._rewards, "groups": self._groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target = float(state["target"])
        self._rewards, self._groups = float(state["rewards"]), int(state["groups"])
