"""The DeepSpeed engine behind one call: micro-batches in, one optimizer step done."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from async_r1.config import LearnerConfig
from async_r1.errors import ConfigError, TrainingError
from learner import guards
from learner.batching import MicroBatch
from learner.model import Policy, token_logprobs
from learner.ranks import Ranks
from learner.statistics import Statistics, Totals

# Loss of a micro-batch (a scalar, already divided by global denominators) and its statistics,
# from the log-probs [N] (with gradient) and entropies [N] of its tokens.
LossFn = Callable[[MicroBatch, Tensor, Tensor], tuple[Tensor, Statistics]]


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step was, over all ranks and micro-batches."""

    totals: Totals
    lr: float
    grad_norm: float  # before clipping


class Backend:
    """Trains a `Policy` with ZeRO; all ranks call all methods together."""

    def __init__(self, policy: Policy, cfg: LearnerConfig, ranks: Ranks) -> None:
        """Takes the policy over: with ZeRO-3 its parameters are partitioned from here on.

        Raises:
            ConfigError: DeepSpeed refuses `learner.deepspeed`.
        """
        import deepspeed

        deepspeed.utils.logging.logger.setLevel(logging.ERROR)
        on_gpu = ranks.device.type == "cuda"
        dtype = next(policy.parameters()).dtype
        if on_gpu and dtype == torch.bfloat16:
            # For the float32 products of the output projection: bfloat16 factors are exact in TF32,
            # and sums are in float32 either way. Without it they would take most of a step.
            torch.set_float32_matmul_precision("high")
        self.ranks = ranks
        self.policy = policy
        self._gradients = guards.GradientGuard(policy.model)
        optimizer = torch.optim.AdamW(
            policy.parameters(),
            lr=cfg.lr,
            betas=(cfg.betas[0], cfg.betas[1]),
            eps=cfg.eps,
            weight_decay=cfg.weight_decay,
            fused=on_gpu,  # else each step holds copies of the optimizer's state
        )
        config = deepspeed_config(cfg, dtype)
        self._grad_norm: float | None = None
        stage = config["zero_optimization"]["stage"]
        if stage == 0:  # DeepSpeed would clip there, too, but not tell the norm; absent it means 1
            max_norm = config["gradient_clipping"] or math.inf
            config["gradient_clipping"] = 0.0
            optimizer.register_step_pre_hook(lambda *_: self._clip(max_norm))
        try:
            self._engine, *_ = deepspeed.initialize(
                model=policy, optimizer=optimizer, config=config, dist_init_required=False
            )
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"DeepSpeed refuses learner.deepspeed: {error}") from error
        if stage == 0 and self._engine.optimizer is not optimizer:
            raise ConfigError("learner.deepspeed asks for master weights: they need ZeRO stage 1")
        self._zero3 = stage == 3

    @property
    def device(self) -> torch.device:
        return self._engine.device

    def train_step(
        self,
        micro_batches: Sequence[MicroBatch],
        loss_fn: LossFn,
        choose_lr: Callable[[Totals], float],
    ) -> StepResult:
        """One optimizer step on the sum of the losses of all micro-batches of all ranks.

        `choose_lr` gets the statistics of the whole update. The weights do not change before
        everything has proved finite on every rank.

        Raises:
            TrainingError: NaN or infinity in log-probs, loss or gradients; raised on all ranks.
        """
        assert micro_batches
        statistics = Statistics()
        self._gradients.reset()
        for batch in micro_batches:
            logprobs, entropies = token_logprobs(self._engine, batch)
            loss, found = loss_fn(batch, logprobs, entropies)
            guards.count_nonfinite(found, "log-probs", logprobs)
            guards.count_nonfinite(found, "loss", loss)
            # DeepSpeed averages gradients over ranks; the losses are to be summed.
            self._engine.backward(loss * self.ranks.size)
            statistics.merge(found)
        self._gradients.count(statistics)
        totals = self.ranks.reduce(statistics)
        self._check(totals)
        lr = choose_lr(totals)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        norm = self._grad_norm if self._grad_norm is not None else self._zero_norm()
        if not math.isfinite(norm):
            raise TrainingError(f"the norm of all gradients is {norm}: it overflows")
        return StepResult(totals, lr, norm)

    def full_weights(self) -> Iterator[tuple[str, Tensor]]:
        """(Hugging Face name, whole weight) of every parameter, in the order of the model.

        Under ZeRO-3 each is gathered in turn: all ranks must iterate, to the end, together.
        """
        import deepspeed

        for name, parameter in self.policy.hf_names().items():
            if self._zero3:
                with deepspeed.zero.GatheredParameters([parameter]):
                    weight = parameter.detach().clone()
            else:
                weight = parameter.detach()
            yield name, weight

    def _check(self, totals: Totals) -> None:
        try:
            guards.check(totals)
        except TrainingError as error:
            names = self._gradients.names()
            where = f", first in the gradient of {names[0]}" if names else ""
            raise TrainingError(f"{error}{where}") from None

    def _clip(self, max_norm: float) -> None:
        self._grad_norm = float(clip_grad_norm_(self.policy.parameters(), max_norm))

    def _zero_norm(self) -> float:
        norm = self._engine.get_global_grad_norm()
        assert norm is not None
        return float(norm)


def deepspeed_config(cfg: LearnerConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Our DeepSpeed options with `learner.deepspeed` merged over them."""
    low_precision = dtype == torch.bfloat16
    # Stage 0 has no float32 master weights; stage 1 is the first that accumulates in float32.
    stage = max(cfg.zero_stage, 1) if low_precision else cfg.zero_stage
    ours: dict[str, Any] = {
        # Formal: the number of sequences and of micro-batches differs from step to step.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # a step ends where we call `step`
        "gradient_clipping": cfg.grad_clip,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
        "zero_optimization": {"stage": stage, "overlap_comm": False},
    }
    if low_precision:
        ours["bf16"] = {"enabled": True}
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
    return _merge(ours, cfg.deepspeed)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict):
            value = _merge(merged.get(key) or {}, value)
        merged[key] = value
    return merged
