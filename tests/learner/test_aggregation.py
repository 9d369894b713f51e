"""Weights of the loss against the aggregation formulas, and their independence of sharding."""

import numpy as np
import pytest

from async_r1.types import Batch
from learner.aggregation import token_weights
from learner.batching import collate, plan
from tests.learner.batches import random_batch

MODES = ["token", "sequence", "prompt"]


def aggregate(batch: Batch, losses: np.ndarray, mode: str) -> float:
    """The loss from its formula, over lists of rollouts."""
    starts = np.concatenate([[0], np.cumsum(batch.completion_lens)])
    rollouts = [
        [(losses[t], batch.mask[t]) for t in range(starts[r], starts[r + 1])]
        for r in range(batch.num_rollouts)
    ]
    sums = [sum(loss for loss, kept in rollout if kept) for rollout in rollouts]
    counts = [sum(1 for _, kept in rollout if kept) for rollout in rollouts]
    if mode == "token":
        return sum(sums) / sum(counts)
    if mode == "sequence":
        means = [s / n for s, n in zip(sums, counts, strict=True) if n]
        return sum(means) / len(means)
    means = []
    for group in set(batch.groups.tolist()):
        members = [r for r in range(batch.num_rollouts) if batch.groups[r] == group]
        if any(counts[r] for r in members):
            size = sum(len(rollouts[r]) for r in members)
            means.append(sum(sums[r] for r in members) / size)
    return sum(means) / len(means)


def with_silent_rollouts(seed: int) -> Batch:
    """A batch in which rollout 1 and the whole of group 2 have no trainable token."""
    batch = random_batch(seed)
    rollout = np.repeat(np.arange(batch.num_rollouts), batch.completion_lens)
    mask = batch.mask.copy()
    mask[rollout == 1] = 0
    mask[batch.groups[rollout] == 2] = 0
    return random_batch(seed, mask=mask)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [random_batch, with_silent_rollouts])
def test_weighted_sum_is_the_aggregate(mode, make) -> None:
    for seed in range(5):
        batch = make(seed)
        losses = np.random.default_rng(seed).normal(size=batch.num_tokens)
        actual = float((losses * token_weights(batch, mode)).sum())
        assert actual == pytest.approx(aggregate(batch, losses, mode), rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_no_sharding_changes_the_loss(mode) -> None:
    batch = random_batch(3, num_groups=5)
    losses = np.random.default_rng(0).normal(size=batch.num_tokens).astype(np.float32)
    fields = {"losses": losses, "weights": token_weights(batch, mode)}
    expected = aggregate(batch, losses, mode)
    for num_ranks in (1, 2, 3):
        for max_tokens in (16, 40, 10_000):
            total = 0.0
            for rank in plan(batch, num_ranks, max_tokens):
                for rows in rank:
                    micro = collate(batch, fields, rows).fields
                    total += float((micro["losses"] * micro["weights"]).sum())
            assert total == pytest.approx(expected, rel=1e-5)


def test_masked_tokens_weigh_nothing_and_no_mask_weighs_all() -> None:
    batch = random_batch(1)
    for mode in MODES:
        assert ((token_weights(batch, mode) == 0) == (batch.mask == 0)).all()
    nothing = random_batch(1, mask=np.zeros(batch.num_tokens, np.uint8))
    for mode in MODES:
        assert not token_weights(nothing, mode).any()
