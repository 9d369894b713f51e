"""What an objective takes and gives: flat tensors over the completion tokens of a micro-batch.

Notation: pi is the policy being trained, mu the behaviour policy that sampled the token, at
whatever version it then had; x = log pi - log mu of the sampled token, rho = exp(x).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from learner.statistics import Statistics

MAX_LOG_RATIO = 20.0  # ratios are exponentiated inside +-20, so that none overflows


@dataclass(frozen=True)
class Tokens:
    """N completion tokens of B whole sequences; none of it carries gradient."""

    behavior_logprobs: Tensor  # [N] log mu
    advantages: Tensor  # [N] of the token's rollout
    mask: Tensor  # [N] bool: trainable
    sequence: Tensor  # [N] int64 row in [0, B)
    num_sequences: int
    reference_logprobs: Tensor | None = None  # [N], for a KL penalty
    draw_weights: Tensor | None = None  # [N] w of the token's item; None: drawn without priority

    def sequence_sums(self, values: Tensor) -> Tensor:
        """Sums over the trainable tokens of each sequence [B]."""
        sums = values.new_zeros(self.num_sequences)
        return sums.index_add_(0, self.sequence, torch.where(self.mask, values, 0.0))


@dataclass(frozen=True)
class Terms:
    """Losses per token [N], to be minimised; the caller masks, weighs and sums them.

    Both carry gradient. Their statistics do not.
    """

    policy: Tensor
    penalty: Tensor
    statistics: Statistics


class Objective(Protocol):
    """A policy objective: a pure function with its options bound."""

    @property
    def penalty_name(self) -> str:
        """The metric of the penalty is loss/<penalty_name>."""

    @property
    def needs_reference(self) -> bool:
        """Whether the tokens must bring reference_logprobs."""

    def __call__(self, logprobs: Tensor, tokens: Tokens) -> Terms:
        """Losses of tokens with log-probs `logprobs` [N] under the policy, with gradient."""


def log_ratio(logprobs: Tensor, tokens: Tokens) -> Tensor:
    """x = log pi - log mu [N]."""
    return logprobs - tokens.behavior_logprobs


def clamped_exp(x: Tensor) -> Tensor:
    """exp(x) with x inside +-MAX_LOG_RATIO."""
    return x.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def k3(x: Tensor) -> Tensor:
    """exp(x) - 1 - x: estimates KL(q || p) from tokens of q with x = log p - log q (Schulman)."""
    return clamped_exp(x) - 1.0 - x


@torch.no_grad()
def ratio_statistics(logprobs: Tensor, tokens: Tokens) -> Statistics:
    """How far the policy is from the one that sampled, over trainable tokens."""
    x = torch.where(tokens.mask, log_ratio(logprobs, tokens), 0.0)
    rho = clamped_exp(x) * tokens.mask
    trains = tokens.sequence_sums(torch.ones_like(x)) > 0
    w = clamped_exp(tokens.sequence_sums(x).double()) * trains  # [B]
    found = Statistics()
    found.add("tokens", tokens.mask)
    found.add("sequences", trains)
    found.add("ratio", rho)
    found.add("mismatch_kl", k3(x))
    found.add("sequence_ratio", w)
    found.add("sequence_ratio_squared", w**2)
    found.maximum("ratio", rho)
    found.maximum("logprob_diff", x.abs())
    return found
