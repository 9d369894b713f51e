"""The policy objectives by name."""

from collections.abc import Callable

from async_r1.config import ObjectiveConfig
from learner.objectives.dppo import Dppo
from learner.objectives.grpo import Grpo
from learner.objectives.terms import Objective, Terms, Tokens

__all__ = ["OBJECTIVES", "Objective", "Terms", "Tokens", "make_objective"]

OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {
    "dppo": lambda cfg: Dppo(cfg.ratio_cap, cfg.tv_low, cfg.tv_high, cfg.drift, cfg.opsm),
    "grpo": lambda cfg: Grpo(cfg.clip_low, cfg.clip_high, cfg.kl),
}


def make_objective(cfg: ObjectiveConfig) -> Objective:
    """The objective that the configuration names; the schema allows no other names."""
    return OBJECTIVES[cfg.name](cfg)
