"""The default: detached, capped ratio; Binary-TV trust region; squared log-ratio everywhere."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from learner.objectives.terms import Terms, Tokens, clamped_exp, log_ratio, ratio_statistics


@dataclass(frozen=True)
class Dppo:
    r"""Divergence PPO anchored at the behaviour policy (arXiv 2602.04879), per token:

        - sg[min(rho, c)] * keep * A * log pi  +  tau * x^2

    `keep` is 0 where the update would take the token's probability further out than allowed:
    A > 0 and pi - mu > tv_high, or A < 0 and pi - mu < -tv_low. The penalty is Kimi k1.5's
    mirror-descent term (arXiv 2501.12599 eq. 3); it pulls back the tokens that `keep` silences,
    too. With `opsm` > 0, sequences of A < 0 whose mean log mu - log pi exceeds it are silenced
    whole (DeepSeek-V3.2). Where pi = mu the gradient is REINFORCE's.

    Items drawn by priority have a weight w (`draw_weights`). It multiplies what corrects for the
    policy before the cap, min(w * rho, c), so that two heavy tails do not make a heavier one, and
    the penalty as min(w, c).
    """

    ratio_cap: float
    tv_low: float
    tv_high: float
    drift: float
    opsm: float = 0.0
    penalty_name: ClassVar[str] = "drift"
    needs_reference: ClassVar[bool] = False

    def __call__(self, logprobs: Tensor, tokens: Tokens) -> Terms:
        x = log_ratio(logprobs, tokens)
        statistics = ratio_statistics(logprobs, tokens)
        with torch.no_grad():
            rho = clamped_exp(x)
            keep = self._inside(logprobs, tokens, x)
            w = tokens.draw_weights
            ratio = rho if w is None else w * rho
            weight = ratio.clamp(max=self.ratio_cap) * keep
            statistics.add("capped", tokens.mask & (ratio > self.ratio_cap))
            statistics.add("silenced", tokens.mask & ~keep)
        policy = -weight * tokens.advantages * logprobs
        penalty = self.drift * x**2
        if w is not None:
            penalty = penalty * w.clamp(max=self.ratio_cap)
        return Terms(policy, penalty, statistics)

    def _inside(self, logprobs: Tensor, tokens: Tokens, x: Tensor) -> Tensor:
        change = logprobs.exp() - tokens.behavior_logprobs.exp()  # [N]
        rises = (tokens.advantages > 0) & (change > self.tv_high)
        falls = (tokens.advantages < 0) & (change < -self.tv_low)
        keep = ~(rises | falls)
        if self.opsm > 0:
            counts = tokens.sequence_sums(torch.ones_like(x)).clamp(min=1.0)
            divergence = -tokens.sequence_sums(x) / counts  # [B]
            keep &= ~((tokens.advantages < 0) & (divergence[tokens.sequence] > self.opsm))
        return keep
