"""GRPO as DeepSeek-R1 used it: PPO's clip and a k3 penalty towards a reference."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from learner.objectives.terms import (
    Terms,
    Tokens,
    clamped_exp,
    k3,
    log_ratio,
    ratio_statistics,
)

MAX_WEIGHTED_RATIO = 10.0  # of w * rho, for items drawn by priority


@dataclass(frozen=True)
class Grpo:
    r"""DeepSeekMath (arXiv 2402.03300) eq. 3 with token-level ratios, per token:

        - min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A)  +  kl * k3(log ref - log pi)

    The old policy of the ratio is the behaviour policy itself, also where its version changed
    inside a rollout. The penalty is not importance weighted: it is the paper's, and off-policy it
    is only near the KL that it estimates.

    Items drawn by priority have a weight w (`draw_weights`), which multiplies both terms. PPO's
    clip leaves rho unbounded where A < 0; with a weight the product is bounded, w * rho <= 10, by
    making w smaller.
    """

    clip_low: float
    clip_high: float
    kl: float
    penalty_name: ClassVar[str] = "kl"

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0

    def __call__(self, logprobs: Tensor, tokens: Tokens) -> Terms:
        rho = clamped_exp(log_ratio(logprobs, tokens))
        clipped = rho.clamp(1 - self.clip_low, 1 + self.clip_high)
        free, bounded = rho * tokens.advantages, clipped * tokens.advantages
        statistics = ratio_statistics(logprobs, tokens)
        statistics.add("clipped", tokens.mask & (bounded < free))
        penalty = torch.zeros_like(logprobs)
        if self.needs_reference:
            assert tokens.reference_logprobs is not None
            divergence = k3(tokens.reference_logprobs - logprobs)
            statistics.add("reference_kl", divergence * tokens.mask)
            penalty = self.kl * divergence
        policy = -torch.minimum(free, bounded)
        if tokens.draw_weights is not None:
            w = torch.minimum(tokens.draw_weights, MAX_WEIGHTED_RATIO / rho.detach().clamp(min=1.0))
            policy, penalty = policy * w, penalty * w
        return Terms(policy, penalty, statistics)
