"""Log-probs of chosen tokens from hidden states, without the logits of all tokens at once.

The logits of a long-context batch are its largest tensor by far: 32,768 tokens of a vocabulary of
151,936 are 20 GB in float32. Here `chunk` rows of them live at a time, in the forward pass and
again in the backward pass, which makes them anew.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LogprobHead(nn.Module):
    """Takes the place of a model's output projection, under the same parameter names.

    Being a module of its own, it is where ZeRO-3 gathers the projection and lets go of it.
    """

    def __init__(self, projection: nn.Linear, chunk: int) -> None:
        super().__init__()
        self.weight = projection.weight  # [V, H]; a tied embedding stays tied
        self.bias = projection.bias
        self.chunk = chunk

    def forward(self, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs of `targets` and entropies (without gradient), float32 [N] each.

        `hidden` [N, H] is what predicts `targets` [N]. The distribution is the softmax of float32
        logits divided by `temperature`: the one that the sampler drew from.
        """
        return _ChunkedLogprobs.apply(
            hidden, self.weight, self.bias, targets, temperature, self.chunk
        )


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        num_tokens = len(targets)
        logprobs = hidden.new_empty(num_tokens, dtype=torch.float32)
        entropies = torch.empty_like(logprobs)
        for rows in _chunks(num_tokens, chunk):
            log_p = _log_softmax(hidden[rows], weight, bias, temperature)  # [C, V]
            logprobs[rows] = log_p.gather(1, targets[rows, None]).squeeze(1)
            entropies[rows] = -(log_p.exp() * log_p).sum(1)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_entropies: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for rows in _chunks(len(targets), ctx.chunk):
            # d log p[y] / d logits = (onehot(y) - p) / temperature
            grad_logits = _log_softmax(hidden[rows], weight, bias, ctx.temperature).exp_().neg_()
            grad_logits.scatter_add_(1, targets[rows, None], torch.ones_like(grad_logits[:, :1]))
            grad_logits.mul_(grad[rows, None] / ctx.temperature)  # [C, V]
            grad_hidden[rows] = (grad_logits @ weight.float()).to(hidden.dtype)
            grad_weight.addmm_(grad_logits.T, hidden[rows].float())
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
        return (
            grad_hidden,
            grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(weight.dtype),
            None,
            None,
            None,
        )


def _chunks(num_rows: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, num_rows, chunk)]


def _log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = F.linear(hidden.float(), weight.float(), None if bias is None else bias.float())
    return F.log_softmax(logits.div_(temperature), dim=1)
