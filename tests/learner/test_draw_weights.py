"""Weights of unequal draws: their formula, their caps, and nothing where they do not apply."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from async_r1 import schema
from async_r1.config import Config
from async_r1.types import Batch
from learner.batching import collate, plan
from learner.draw_weights import draw_weights, weight_metrics
from learner.objectives.dppo import Dppo
from learner.objectives.grpo import MAX_WEIGHTED_RATIO, Grpo
from learner.objectives.terms import Objective
from learner.surprise import SurpriseMeter
from tests.learner.batches import random_batch
from tests.learner.test_objectives import DPPO, GRPO, SEQUENCE, random_tokens

OBJECTIVES = pytest.mark.parametrize("objective", [DPPO, GRPO], ids=["dppo", "grpo"])


def drawn(beta: float) -> Batch:
    """Three groups of four from ten, one of them certain."""
    probs = np.repeat(np.asarray([1.0, 0.5, 0.1], np.float32), 4)
    return random_batch(0, inclusion_probs=probs, beta=beta, num_items=10)


def test_weights_are_the_formula() -> None:
    assert draw_weights(drawn(0.0)) is None
    for beta in (0.4, 1.0):
        want = [(3 / (10 * pi)) ** beta for pi in (1.0, 0.5, 0.1) for _ in range(4)]
        assert draw_weights(drawn(beta)) == pytest.approx(want, rel=1e-6)


def test_equal_probabilities_weigh_one() -> None:
    batch = random_batch(0, inclusion_probs=np.full(12, 0.3, np.float32), beta=1.0, num_items=10)
    assert draw_weights(batch) == pytest.approx(np.ones(12))
    assert weight_metrics(batch) == pytest.approx(
        {"replay/weight_mean": 1.0, "replay/weight_max": 1.0, "replay/ess": 1.0}
    )


def test_metrics() -> None:
    w = np.repeat([0.3, 0.6, 3.0], 4)
    metrics = weight_metrics(drawn(1.0))
    assert metrics["replay/weight_mean"] == pytest.approx(1.3)
    assert metrics["replay/weight_max"] == pytest.approx(3.0)
    assert metrics["replay/ess"] == pytest.approx(w.sum() ** 2 / (12 * (w**2).sum()))
    assert set(weight_metrics(drawn(0.0)).values()) == {1.0}


@OBJECTIVES
def test_weights_of_one_change_no_bit(objective: Objective) -> None:
    for seed in range(5):
        pi, tokens = random_tokens(seed)
        ones = replace(tokens, draw_weights=torch.ones_like(pi))
        plain, weighted = objective(pi, tokens), objective(pi, ones)
        capped = (
            pi - tokens.behavior_logprobs
        ).exp() > MAX_WEIGHTED_RATIO  # grpo caps with weights
        for name in ("policy", "penalty"):
            a, b = getattr(plain, name).detach(), getattr(weighted, name).detach()
            assert torch.equal(a[~capped], b[~capped])


def test_dppo_caps_the_product() -> None:
    objective = Dppo(ratio_cap=2.0, tv_low=9.0, tv_high=9.0, drift=0.01)
    for seed in range(5):
        pi, tokens = random_tokens(seed)
        w = torch.tensor([0.2, 1.0, 3.0, 9.0], dtype=torch.float64)[torch.tensor(SEQUENCE)]
        terms = objective(pi, replace(tokens, draw_weights=w))
        (terms.policy + terms.penalty).sum().backward()
        assert pi.grad is not None
        for t in range(len(SEQUENCE)):
            x = float(pi[t].detach() - tokens.behavior_logprobs[t])
            weight = min(float(w[t]) * np.exp(x), 2.0)
            penalty = 2 * 0.01 * x * min(float(w[t]), 2.0)
            want = -weight * float(tokens.advantages[t]) + penalty
            assert float(pi.grad[t]) == pytest.approx(want)


def test_grpo_weighs_its_loss_and_bounds_the_product() -> None:
    objective = Grpo(clip_low=0.2, clip_high=0.3, kl=0.05)
    bounded = 0
    for seed in range(5):
        pi, tokens = random_tokens(seed)
        w = torch.tensor([0.2, 1.0, 3.0, 9.0], dtype=torch.float64)[torch.tensor(SEQUENCE)]
        pi = pi.detach()
        plain = objective(pi, tokens)
        weighted = objective(pi, replace(tokens, draw_weights=w))
        for t in range(len(SEQUENCE)):
            rho = float((pi[t] - tokens.behavior_logprobs[t]).exp())
            factor = min(float(w[t]), 10.0 / max(rho, 1.0))
            bounded += factor < float(w[t])
            for name in ("policy", "penalty"):
                got, base = (float(getattr(terms, name)[t]) for terms in (weighted, plain))
                assert got == pytest.approx(factor * base)
    assert bounded > 0


def test_surprise_is_the_mean_over_trained_tokens_however_the_batch_is_cut() -> None:
    batch = random_batch(1, num_groups=4)
    rollout = np.repeat(np.arange(batch.num_rollouts), batch.completion_lens)
    mask = batch.mask.copy()
    mask[batch.groups[rollout] == 2] = 0  # an item without a trained token
    batch = replace(batch, mask=mask)
    pi = np.random.default_rng(0).normal(-1.0, 0.3, batch.num_tokens).astype(np.float32)
    want = {}
    for item in (7, 8, 10):
        mine = (batch.item_ids[rollout] == item) & batch.mask.astype(bool)
        want[item] = float(np.abs(pi[mine] - batch.behavior_logprobs[mine]).mean())
    fields = {
        "behavior_logprobs": batch.behavior_logprobs,
        "mask": batch.mask.astype(bool),
        "pi": pi,
    }

    class Ranks:
        def __init__(self, others: list[torch.Tensor]) -> None:
            self.others = others

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + sum(self.others)

    for num_ranks in (1, 2, 3):
        meters = [SurpriseMeter(batch, torch.device("cpu")) for _ in range(num_ranks)]
        for meter, shard in zip(meters, plan(batch, num_ranks, 40), strict=True):
            for rows in shard:
                micro = collate(batch, fields, rows)
                meter.add(micro, micro.fields["pi"])
        found = meters[0].reduce(Ranks([m._sums for m in meters[1:]]))  # type: ignore[arg-type]
        assert found.item_ids.tolist() == list(want)
        assert found.values == pytest.approx(list(want.values()), rel=1e-5)


def test_surprise_is_measured_only_where_priorities_go_by_it() -> None:
    factors = {"factors": ["surprise"]}
    for buffer, wanted in (
        ({}, False),
        ({"priority": factors}, False),
        ({"sampler": "prioritized"}, False),
        ({"sampler": "prioritized", "priority": factors}, True),
        ({"remover": "lowest_priority", "priority": factors}, True),
    ):
        assert schema.build(Config, {"buffer": buffer}).buffer.needs_surprise is wanted
