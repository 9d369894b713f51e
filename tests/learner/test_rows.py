import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from async_r1.config import LearnerConfig
from learner.lag import Lag
from learner.rows import batch_metrics, staleness_metrics, versions_per_rollout
from learner.schedule import factor, learning_rate
from learner.statistics import Totals
from learner.trainer import ess_factor
from tests.learner.batches import random_batch


def two_rollouts():
    """Ten and four tokens, consumed at version 6; -1 marks tokens that nobody sampled."""
    return random_batch(
        num_groups=1,
        group_size=2,
        policy_version=6,
        completion_lens=np.array([10, 4], np.int32),
        token_ids=np.arange(14, dtype=np.int32),
        behavior_logprobs=np.zeros(14, np.float32),
        versions=np.array([1, 1, 3, 3, 3, -1, 5, 5, 5, 6, 6, 6, 6, 6], np.int32),
        mask=np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1], np.uint8),
        info={"accuracy/mean": 0.25, "reward/mean": -3.0},
    )


def test_staleness_is_that_of_trained_tokens() -> None:
    found = staleness_metrics(two_rollouts(), bound=4)
    ages = [3, 3, 3, 1, 1, 1, 0, 0, 0, 0]
    assert found["staleness/mean"] == pytest.approx(np.mean(ages))
    assert found["staleness/max"] == 3
    assert found["staleness/bound"] == 4
    assert found["staleness/masked_tokens"] == 2  # neither the inserted nor the otherwise masked
    assert found["versions_per_rollout/mean"] == 2.5
    assert found["versions_per_rollout/three_or_more_frac"] == 0.5


def test_versions_per_rollout_is_a_count_of_distinct_ones() -> None:
    batch = random_batch(3)
    starts = np.concatenate([[0], np.cumsum(batch.completion_lens)])
    expected = [len(set(batch.versions[a:b].tolist())) for a, b in pairwise(starts)]
    assert versions_per_rollout(batch).tolist() == expected


def test_the_buffers_words_come_last() -> None:
    row = batch_metrics(two_rollouts(), bound=4)
    assert row["accuracy/mean"] == 0.25
    assert row["reward/mean"] == -3.0
    assert row["completion_length/mean"] == 7.0
    assert row["batch/num_tokens"] == 14


def test_a_batch_without_trainable_tokens_has_a_row() -> None:
    batch = random_batch(0)
    empty = random_batch(0, mask=np.zeros_like(batch.mask))
    assert batch_metrics(empty, bound=4)["staleness/mean"] == 0.0


def test_schedule() -> None:
    cfg = LearnerConfig(lr=2.0, num_updates=11, warmup_updates=4)
    assert [learning_rate(cfg, u) for u in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    for decay in ("linear", "cosine"):
        shares = [factor(u, 11, 0, decay, 0.1) for u in range(11)]
        assert shares[0] == 1.0
        assert shares[-1] == pytest.approx(0.1)
        assert shares == sorted(shares, reverse=True)
        assert shares[5] == pytest.approx(0.55)
    assert factor(99, 11, 0, "linear", 0.1) == pytest.approx(0.1)
    assert factor(0, 1, 0, "linear", 0.1) == 1.0


@pytest.mark.parametrize(("ess", "expected"), [(1.0, 1.0), (0.25, 0.5), (1e-4, 0.1)])
def test_ess_factor(ess: float, expected: float) -> None:
    # Of 100 equal weights and others of zero, the effective sample is the share of the former.
    sums = {"sequences": 100 / ess, "sequence_ratio": 100.0, "sequence_ratio_squared": 100.0}
    assert ess_factor(Totals(sums, {})) == pytest.approx(expected)


def test_ess_factor_of_nothing_is_the_smallest() -> None:
    sums = {"sequences": 0.0, "sequence_ratio": 0.0, "sequence_ratio_squared": 0.0}
    assert math.isnan(Totals(sums, {}).effective_sample_frac())
    assert ess_factor(Totals(sums, {})) == 0.1


def test_lag_publishes_what_was_current_so_many_versions_ago() -> None:
    lag, weight = Lag(2), torch.zeros(1)
    published = []
    for version in range(1, 6):
        weight.fill_(version)  # in place, as an optimizer does
        published.append(lag.publishable(version, [("w", weight)]))
    assert published[:2] == [None, None]
    assert [(v, w[0][1].item()) for v, w in published[2:]] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert Lag(0).publishable(1, [("w", weight)])[0] == 1
