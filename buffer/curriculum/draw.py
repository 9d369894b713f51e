"""What a component sees of one call of `sample`: the candidates and what is believed of them."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from async_r1.config_curriculum import CurriculumConfig
from buffer.curriculum.posterior import Float64, Posterior
from buffer.curriculum.protocol import Indices
from buffer.curriculum.roster import Roster

Mask = NDArray[np.bool_]


class Draw:
    """One call of `sample`; what several components need is worked out once.

    Candidates are all free prompts, or, of more active prompts than `options.candidates`, those of
    a random choice of so many, each equally likely to be in it.
    """

    def __init__(
        self,
        options: CurriculumConfig,
        roster: Roster,
        posterior: Posterior,
        passes: Callable[[NDArray[np.integer]], Mask] | None,
        *,
        rng: np.random.Generator,
        version: int,
    ) -> None:
        """`passes(prompts)` says which a gate does not skip; None: there is no gate."""
        self._options = options
        self._roster = roster
        self._posterior = posterior
        self._passes = passes
        self.rng = rng
        self.version = version
        self.chosen: list[int] = []  # in this call, so far
        self.skipped_frac: float | None = None  # of the candidates, by the gate

    def free(self, prompts: NDArray[np.integer]) -> Mask:
        """Which of the prompts may be drawn."""
        free = self._left(prompts)
        return free if self._passes is None else free & self._passes(prompts)

    def _left(self, prompts: NDArray[np.integer]) -> Mask:
        free: Mask = self._roster.free(prompts, skip_in_flight=self._options.skip_in_flight)
        if not self._options.skip_in_flight and self.chosen:
            free &= ~np.isin(prompts, self.chosen)
        return free

    @cached_property
    def candidates(self) -> Indices:
        active, count = self._roster.active, self._options.candidates
        if len(active) > count:
            # One of each of `count` equal parts of a circle: distinct, and none more likely.
            edges = np.arange(count + 1) * len(active) // count
            places = edges[:-1] + (self.rng.random(count) * np.diff(edges)).astype(np.int64)
            places += self.rng.integers(len(active))
            active = active[places % len(active)]
        free = self._left(active)
        if self._passes is not None:
            passed = self._passes(active)
            self.skipped_frac = float(np.mean(~passed)) if len(active) else 0.0
            free &= passed
        return active[free].astype(np.int64)

    @cached_property
    def parameters(self) -> tuple[Float64, Float64]:
        """(a, b) of each candidate's posterior."""
        return self._posterior.at(self.candidates, self.version)

    @cached_property
    def mean(self) -> Float64:
        """Estimated success of each candidate."""
        a, b = self.parameters
        return a / (a + b)

    @cached_property
    def thompson(self) -> Float64:
        """A draw from each candidate's posterior: the first of two gamma variates over their sum.
        Both parameters are at least 1, so that float32 does not underflow."""
        a, b = (self.rng.standard_gamma(x.astype(np.float32), dtype=np.float32)
                for x in self.parameters)  # fmt: skip
        return (a / (a + b)).astype(np.float64)

    @property
    def success(self) -> Float64:
        """What scores go by, as `curriculum.success.estimate` says."""
        return self.thompson if self._options.success.estimate == "thompson" else self.mean

    def proportional(self, weights: Float64, count: int) -> list[int]:
        """Candidates drawn one after the other, each with probability proportional to its weight
        among those left: the largest of weight / Exp(1) (Efraimidis and Spirakis 2006).

        Args:
            weights: of each candidate, >= 0; one of weight 0 is never drawn.
        """
        return self.greatest(weights / self.rng.standard_exponential(len(weights)), count)

    def greatest(self, keys: Float64, count: int) -> list[int]:
        """The free candidates of the greatest keys above 0, the greatest first."""
        if self.chosen:
            keys = np.where(self._left(self.candidates), keys, 0.0)
        count = min(count, len(keys))
        if not count:
            return []
        best = np.argpartition(keys, len(keys) - count)[len(keys) - count :]
        best = best[keys[best] > 0]
        chosen: list[int] = self.candidates[best[np.argsort(-keys[best])]].tolist()
        return chosen
