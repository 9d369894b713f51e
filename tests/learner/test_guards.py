import json

import numpy as np
import pytest
import torch

from async_r1.errors import TrainingError
from async_r1.run_dir import RunDir
from learner import guards
from learner.statistics import Statistics, Totals
from tests.learner.batches import random_batch


def totals(statistics: Statistics) -> Totals:
    return Totals({name: float(value) for name, value in statistics.sums.items()}, {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_check_names_what_is_not_finite(bad: float) -> None:
    statistics = Statistics()
    guards.count_nonfinite(statistics, "log-probs", torch.zeros(3))
    guards.check(totals(statistics))
    guards.count_nonfinite(statistics, "log-probs", torch.tensor([0.0, bad]))
    guards.count_nonfinite(statistics, "loss", torch.tensor(bad))
    with pytest.raises(TrainingError, match=r"NaN or infinity in log-probs \(1 values\)"):
        guards.check(totals(statistics))


def test_gradient_guard_names_the_parameter() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    guard = guards.GradientGuard(model)
    model(torch.ones(1, 2)).sum().backward()
    assert guard.names() == []
    # Only the first layer's weight sees the infinity: its gradient is the outer product with x.
    (model(torch.zeros(1, 2)).sum() + model[0].weight.sum() * float("inf")).backward()
    statistics = Statistics()
    guard.count(statistics)
    assert guard.names() == ["0.weight"]
    with pytest.raises(TrainingError, match="gradients"):
        guards.check(totals(statistics))
    guard.reset()
    assert guard.names() == []


def test_weights_are_checked_on_their_way_out() -> None:
    weights = [("a", torch.ones(2)), ("b", torch.tensor([1.0, float("nan")])), ("c", torch.ones(1))]
    passed = []
    with pytest.raises(TrainingError, match="weight b"):
        for name, _ in guards.finite_weights(iter(weights)):
            passed.append(name)
    assert passed == ["a"]


def test_failed_batch_can_be_read_back_without_pickle(tmp_path) -> None:
    batch = random_batch(0)
    path = guards.save_failed_batch(
        RunDir(tmp_path), batch, step=12, policy_version=11, error="NaN or infinity in loss"
    )
    assert path == tmp_path / "failed_batch" / "step_000012.npz"
    arrays = np.load(path, allow_pickle=False)
    assert (arrays["token_ids"] == batch.token_ids).all()
    assert (arrays["behavior_logprobs"] == batch.behavior_logprobs).all()
    assert len(arrays.files) == 15
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["error"] == "NaN or infinity in loss"
    assert (facts["step"], facts["policy_version"], facts["batch_id"]) == (12, 11, batch.batch_id)
