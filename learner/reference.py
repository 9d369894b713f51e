"""The frozen policy that GRPO's KL penalty pulls towards."""

from collections.abc import Iterable

import torch
from torch import Tensor

from learner.batching import MicroBatch
from learner.model import Policy, token_logprobs


class Reference:
    """A whole copy of the policy on every rank, replaced every so many versions (R1: 400 steps)."""

    def __init__(self, policy: Policy, *, refresh_every: int, device: torch.device) -> None:
        """`refresh_every` counts versions; 0 keeps the first policy for good."""
        self._policy = policy.requires_grad_(False).eval().to(device)
        self._refresh_every = refresh_every

    @torch.no_grad()
    def logprobs(self, batch: MicroBatch) -> Tensor:
        """Log-probs of the completion tokens under the reference [N]."""
        return token_logprobs(self._policy, batch)[0]

    def due(self, policy_version: int) -> bool:
        """Whether the policy of this version becomes the reference."""
        return bool(self._refresh_every) and policy_version % self._refresh_every == 0

    @torch.no_grad()
    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take over the weights of the policy, by Hugging Face name."""
        mine = self._policy.hf_names()
        for name, weight in weights:
            mine[name].copy_(weight)
