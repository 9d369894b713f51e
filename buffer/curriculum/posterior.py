"""How likely a prompt is to be solved: a Beta posterior of evidence that decays with versions.

Of `s` successes in `n` trials sampled at version u, the weight at version v is 2^(-(v - u) / H), H
being the half-life. With the prior Beta(a0, b0) this is the rule of MoPPS (arXiv 2507.04632),
a <- l a + (1 - l) a0 + s, with l = 2^(-D / H) for a distance of D versions: what is not sampled
drifts back to the prior. Evidence is kept as of the newest version that it has; the rest of the
decay is applied when it is read.

The prior is Beta(1 + k m, 1 + k (1 - m)), m being the success of the prompt's level, estimated the
same way from Beta(1, 1), and k the option `level_prior`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.config_curriculum import SuccessConfig
from async_r1.types import Float32

Float64 = NDArray[np.float64]


class Evidence:
    """Decaying counts of successes and failures, by index. 12 bytes each."""

    def __init__(self, size: int, half_life: float) -> None:
        """`half_life` in versions; 0: nothing decays."""
        self._rate = 1.0 / half_life if half_life else 0.0
        self.wins: Float32 = np.zeros(size, np.float32)
        self.losses: Float32 = np.zeros(size, np.float32)
        self.newest = np.zeros(size, np.int32)  # version

    def add(self, index: int, successes: float, trials: float, version: int) -> None:
        """Successes and trials of tokens sampled at `version`, which may be older than the rest."""
        newest = int(self.newest[index])
        kept = self._kept(version - newest) if version > newest else 1.0
        counted = self._kept(newest - version) if version < newest else 1.0
        self.wins[index] = kept * self.wins[index] + counted * successes
        self.losses[index] = kept * self.losses[index] + counted * (trials - successes)
        self.newest[index] = max(version, newest)

    def at(self, indices: Any, version: int) -> tuple[Float64, Float64]:
        """Weight of successes and of failures as of a version."""
        age = np.maximum(version - self.newest[indices], 0)
        kept = np.exp2(age * -self._rate)
        return kept * self.wins[indices], kept * self.losses[indices]

    def weight(self, index: int) -> float:
        """Trials' worth of evidence as of its newest version."""
        return float(self.wins.item(index) + self.losses.item(index))

    def rows(self, indices: Any) -> dict[str, Any]:
        """What `load` takes."""
        return {
            "wins": self.wins[indices],
            "losses": self.losses[indices],
            "newest": self.newest[indices],
        }

    def load(self, indices: Any, rows: dict[str, Any]) -> None:
        """The rows of these; nothing is known of the others."""
        for name, array in (("wins", self.wins), ("losses", self.losses), ("newest", self.newest)):
            array[:] = 0
            array[indices] = rows[name]

    def _kept(self, versions: int) -> float:
        return float(2.0 ** (-self._rate * versions))


class Posterior:
    """Evidence of every prompt and of every level, and the posterior that follows."""

    def __init__(self, level_of: NDArray[Any], num_levels: int, options: SuccessConfig) -> None:
        """`level_of[prompt]`: index of its level [num_prompts]."""
        self._level_of = level_of
        self._strength = options.level_prior
        self.prompts = Evidence(len(level_of), options.half_life)
        self.levels = Evidence(num_levels, options.half_life)

    def add(self, prompt: int, successes: float, trials: float, version: int) -> None:
        """A group's outcome."""
        self.prompts.add(prompt, successes, trials, version)
        self.levels.add(int(self._level_of[prompt]), successes, trials, version)

    def at(self, prompts: Any, version: int) -> tuple[Float64, Float64]:
        """Parameters (a, b) of the posterior of each prompt, each at least 1."""
        wins, losses = self.prompts.at(prompts, version)
        if not self._strength:
            return 1.0 + wins, 1.0 + losses
        prior = self._strength * self.level_means(version)[self._level_of[prompts]]
        return 1.0 + prior + wins, 1.0 + self._strength - prior + losses

    def mean(self, prompts: Any, version: int) -> Float64:
        """Estimated success of each prompt."""
        a, b = self.at(prompts, version)
        return a / (a + b)

    def level_means(self, version: int) -> Float64:
        """Estimated success of each level."""
        wins, losses = self.levels.at(slice(None), version)
        return (1.0 + wins) / (2.0 + wins + losses)
