"""GRESO (arXiv 2506.02177): prompts whose groups had no variance are skipped before sampling.

A prompt whose last z groups in a row had equal rewards is skipped with probability
1 - max(p^z, least). There is a p for prompts that were all right and one for all wrong; each moves
by a step so that the share of such groups goes to its target.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.config_curriculum import GresoConfig
from buffer.curriculum.permutation import mix
from buffer.curriculum.protocol import Outcome

_ALL_WRONG = 0x80  # bit of the streak


class Greso:
    """One byte per prompt: its streak, and of which kind. What is skipped follows from seed, key
    and prompt alone, so that a replay skips the same."""

    def __init__(self, options: GresoConfig, num_prompts: int, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._streak = np.zeros(num_prompts, np.uint8)
        self.easy = self.hard = options.initial  # p of each kind
        self._groups = self._num_easy = self._num_hard = 0  # since the last change

    def chance(self, prompts: NDArray[Any]) -> NDArray[np.float64]:
        """Probability that each is not skipped."""
        streak = self._streak[prompts]
        p = np.where(streak & _ALL_WRONG, self.hard, self.easy)
        kept = np.maximum(p ** (streak & ~np.uint8(_ALL_WRONG)), self._options.least)
        return np.where(streak == 0, 1.0, kept)

    def passes(self, prompts: NDArray[Any], key: int) -> NDArray[np.bool_]:
        """Which of the prompts are not skipped; each has one answer for a key."""
        salt = np.uint64((self._seed * 0x9E3779B97F4A7C15 + key * 0xD1B54A32D192ED03) % (1 << 64))
        numbers = mix(mix(prompts.astype(np.uint64) + np.uint64(1)) ^ salt)
        uniform = (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
        below: NDArray[np.bool_] = uniform < self.chance(prompts)
        return below

    def observe(self, outcome: Outcome) -> None:
        """A group closed."""
        wrong = 2 * outcome.successes < outcome.trials
        if outcome.zero_variance:
            times = min(int(self._streak[outcome.prompt] & 0x7F) + 1, 0x7F)
            self._streak[outcome.prompt] = times | (_ALL_WRONG if wrong else 0)
            self._num_hard += wrong
            self._num_easy += not wrong
        else:
            self._streak[outcome.prompt] = 0
        self._groups += 1
        if self._groups == self._options.groups:
            self._adapt()

    def _adapt(self) -> None:
        options, groups = self._options, self._groups
        hard = options.target * options.hard_share
        self.easy = self._moved(self.easy, self._num_easy / groups, options.target - hard)
        self.hard = self._moved(self.hard, self._num_hard / groups, hard)
        self._groups = self._num_easy = self._num_hard = 0

    def _moved(self, p: float, share: float, target: float) -> float:
        p += -self._options.step if share > target else self._options.step
        return min(max(p, self._options.lowest), self._options.highest)

    def metrics(self) -> dict[str, float]:
        return {"curriculum/greso/p_easy": self.easy, "curriculum/greso/p_hard": self.hard}

    def state_dict(self) -> dict[str, Any]:
        prompts = np.flatnonzero(self._streak)
        return {
            "prompts": prompts,
            "streaks": self._streak[prompts],
            "p": [self.easy, self.hard],
            "counts": [self._groups, self._num_easy, self._num_hard],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._streak[:] = 0
        self._streak[np.asarray(state["prompts"])] = state["streaks"]
        self.easy, self.hard = map(float, state["p"])
        self._groups, self._num_easy, self._num_hard = map(int, state["counts"])
