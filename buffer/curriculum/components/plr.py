"""Prioritized level replay (arXiv 2010.03934), a level being a prompt.

    P = (1 - rho) P_S + rho P_C;  P_S ~ (1 / rank)^(1 / beta) by score;  P_C ~ c - C_i

The score is the mean |advantage| of the prompt's last group, c the number of draws so far and C_i
that of the prompt's last one. While there are prompts without a score, a draw takes one of them
with probability nu. Equal scores share their ranks at random.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from async_r1.config_curriculum import PlrConfig
from async_r1.types import Float32
from buffer.curriculum.components.base import Component
from buffer.curriculum.draw import Draw
from buffer.curriculum.posterior import Float64
from buffer.curriculum.protocol import Indices, Outcome


class PrioritizedLevelReplay(Component):
    """Memory per prompt: 4 bytes."""

    name = "plr"

    def __init__(self, options: PlrConfig, last_drawn: Any) -> None:
        """`last_drawn` [num_prompts]: number of each prompt's last draw, from 1; 0: never."""
        self._options = options
        self._last_drawn = last_drawn
        self._num_drawn = 0
        # 1 + score, so that 0 says that there is none, and untouched memory is not used.
        self._scores: Float32 = np.zeros(len(last_drawn), np.float32)

    def choose(self, count: int, draw: Draw) -> Iterator[int]:
        scores = self._scores[draw.candidates]
        seen = scores > 0
        num_new = int((draw.rng.random(count) < self._options.new).sum())
        num_new = min(num_new, int((~seen).sum()))
        num_new = max(num_new, count - int(seen.sum()))  # nothing to replay yet
        yield from draw.proportional((~seen).astype(np.float64), num_new)
        yield from draw.proportional(self._replay(scores, seen, draw), count - num_new)

    def _replay(self, scores: Float32, seen: Any, draw: Draw) -> Float64:
        """Probability of each candidate, those without a score having 0."""
        weights = np.zeros(len(scores))
        if not seen.any():
            return weights
        places = draw.rng.permutation(np.flatnonzero(seen))  # random among equal scores
        places = places[np.argsort(-scores[places], kind="stable")]
        ranks = np.arange(1, len(places) + 1, dtype=np.float64)
        by_score = ranks ** (-1.0 / self._options.beta)
        waited = (self._num_drawn - self._last_drawn[draw.candidates[places]]).astype(np.float64)
        rho = self._options.staleness if waited.any() else 0.0
        weights[places] = (1.0 - rho) * by_score / by_score.sum()
        if rho:
            weights[places] += rho * waited / waited.sum()
        return weights

    def opened(self, prompt: int, num_drawn: int) -> None:
        self._num_drawn = num_drawn

    def observe(self, outcome: Outcome) -> None:
        self._scores[outcome.prompt] = 1.0 + outcome.abs_advantage

    def state_dict(self) -> dict[str, Any]:
        scored: Indices = np.flatnonzero(self._scores)
        return {
            "num_drawn": self._num_drawn,
            "prompts": scored,
            "scores": self._scores[scored],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_drawn = int(state["num_drawn"])
        self._scores[:] = 0
        self._scores[np.asarray(state["prompts"])] = state["scores"]
