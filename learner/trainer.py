"""One update: a batch becomes micro-batches, losses, statistics and an optimizer step."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from async_r1.config import Config
from async_r1.types import Batch
from learner.advantages import normalise
from learner.aggregation import token_weights
from learner.backend import Backend, StepResult
from learner.batching import MicroBatch, collate, plan
from learner.draw_weights import draw_weights
from learner.objectives import Tokens, make_objective
from learner.reference import Reference
from learner.schedule import learning_rate
from learner.statistics import Statistics, Totals
from learner.surprise import Surprise, SurpriseMeter


@dataclass(frozen=True)
class Update:
    """What one update did."""

    result: StepResult
    metrics: dict[str, float]  # loss/*, optim/*, ratio/*, mismatch_kl/*, ...
    surprise: Surprise | None = None  # of the batch's items, if priorities go by it


class Trainer:
    """Trains the policy on whole batches; all ranks hold the same batch and train their share."""

    def __init__(self, config: Config, backend: Backend, reference: Reference | None) -> None:
        self._config = config
        self._backend = backend
        self._objective = make_objective(config.objective)
        self._reference = reference
        assert self._objective.needs_reference == (reference is not None)

    def update(self, batch: Batch, step: int) -> Update:
        """The optimizer step `step` (1-based).

        Raises:
            TrainingError: NaN or infinity; the weights are as before.
        """

        def choose_lr(totals: Totals) -> float:
            lr = learning_rate(self._config.learner, step - 1)
            return lr * ess_factor(totals) if self._config.objective.ess_lr else lr

        micro_batches, meter = self._micro_batches(batch), self._surprise_meter(batch)

        def loss(
            micro_batch: MicroBatch, logprobs: Tensor, entropies: Tensor
        ) -> tuple[Tensor, Statistics]:
            if meter is not None:
                meter.add(micro_batch, logprobs)
            return self._loss(micro_batch, logprobs, entropies)

        result = self._backend.train_step(micro_batches, loss, choose_lr)
        surprise = meter.reduce(self._backend.ranks) if meter is not None else None
        return Update(result, self._metrics(result), surprise)

    def _micro_batches(self, batch: Batch) -> list[MicroBatch]:
        cfg, ranks = self._config, self._backend.ranks
        advantages = normalise(batch.advantages, batch.groups, cfg.objective.advantage_norm)
        fields = {
            "behavior_logprobs": batch.behavior_logprobs,
            "advantages": np.repeat(advantages, batch.completion_lens),
            "mask": batch.mask.astype(bool),
            "weights": token_weights(batch, cfg.objective.aggregation),
        }
        weights = draw_weights(batch)
        if weights is not None:
            repeated = np.repeat(weights, batch.completion_lens)
            fields["draw_weights"] = repeated.astype(np.float32)
        shared = self._backend.policy.shares_prompts
        mine = plan(batch, ranks.size, cfg.learner.micro_batch_tokens, shared=shared)[ranks.rank]
        return [collate(batch, fields, rows, self._backend.device) for rows in mine]

    def _surprise_meter(self, batch: Batch) -> SurpriseMeter | None:
        wanted = self._config.buffer.needs_surprise
        return SurpriseMeter(batch, self._backend.device) if wanted else None

    def _loss(
        self, batch: MicroBatch, logprobs: Tensor, entropies: Tensor
    ) -> tuple[Tensor, Statistics]:
        mask, weights = batch.fields["mask"], batch.fields["weights"]
        tokens = Tokens(
            behavior_logprobs=batch.fields["behavior_logprobs"],
            advantages=batch.fields["advantages"],
            mask=mask,
            sequence=batch.sequence,
            num_sequences=batch.num_sequences,
            reference_logprobs=self._reference.logprobs(batch) if self._reference else None,
            draw_weights=batch.fields.get("draw_weights"),
        )
        terms = self._objective(logprobs, tokens)
        policy, penalty = (terms.policy * weights).sum(), (terms.penalty * weights).sum()
        terms.statistics.add("loss/policy", policy)
        terms.statistics.add("loss/penalty", penalty)
        terms.statistics.add("entropy", entropies * mask)
        return policy + penalty, terms.statistics

    def _metrics(self, result: StepResult) -> dict[str, float]:
        totals = result.totals
        policy, penalty = totals.sums["loss/policy"], totals.sums["loss/penalty"]
        metrics = {
            "loss/policy": policy,
            f"loss/{self._objective.penalty_name}": penalty,
            "loss/total": policy + penalty,
            "optim/lr": result.lr,
            "optim/grad_norm": result.grad_norm,
            "ratio/mean": totals.mean("ratio"),
            "ratio/max": totals.maxima["ratio"],
            "ratio/ess": totals.effective_sample_frac(),
            "mismatch_kl/mean": totals.mean("mismatch_kl"),
            "logprob_diff/max": totals.maxima["logprob_diff"],
            "entropy/mean": totals.mean("entropy"),
        }
        for name, metric in _FRACTIONS.items():
            if name in totals.sums:
                metrics[metric] = totals.mean(name)
        return metrics


_FRACTIONS = {
    "capped": "ratio/cap_frac",
    "silenced": "ratio/mask_frac",
    "clipped": "ratio/clip_frac",
    "reference_kl": "reference_kl/mean",
}


def ess_factor(totals: Totals) -> float:
    """clip(sqrt(ESS / B), 0.1, 1): smaller steps on batches that say less (VCPO, 2602.17616)."""
    frac = totals.effective_sample_frac()
    return float(np.clip(np.sqrt(frac), 0.1, 1.0)) if frac == frac else 0.1
