"""The whole loop learns, and learns only from rewards."""

from pathlib import Path

import pytest

from tests.integration.runs import launch, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SHORT = ("experiment=demo", "learner.num_updates=24", "eval.every=12", "task.num_eval=128")


def test_held_out_accuracy_rises_asynchronously_within_the_bound(tmp_path: Path) -> None:
    run = launch(tmp_path, *SHORT)
    evals = rows(run, "eval")
    assert evals[0]["policy_version"] == 0 and evals[-1]["policy_version"] == 24
    assert evals[-1]["eval/accuracy"] - evals[0]["eval/accuracy"] > 0.2
    learner = rows(run, "learner")
    assert [row["step"] for row in learner] == list(range(1, 25))
    assert all(row["staleness/max"] <= row["staleness/bound"] for row in learner)
    assert sum(row["staleness/mean"] for row in learner) / len(learner) > 0.3
    assert all(row["mismatch_kl/mean"] < 0.2 for row in learner)
    assert (run.checkpoint(24) / "COMPLETE").exists() and run.report.exists()


def test_nothing_is_learned_when_rewards_are_shuffled(tmp_path: Path) -> None:
    """Sampled, not greedy: a drift of the style would show before it tips the greedy answer."""
    run = launch(tmp_path, *SHORT, "reward.shuffle=true", "eval.temperature=1")
    evals = rows(run, "eval")
    assert 0.05 < evals[0]["eval/accuracy"] < 0.5
    assert abs(evals[-1]["eval/accuracy"] - evals[0]["eval/accuracy"]) < 0.2
