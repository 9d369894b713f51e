"""DeepSpeed steps, in real processes, against the same steps in plain torch."""

import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from async_r1.config import LearnerConfig
from learner.advantages import normalise
from learner.aggregation import token_weights
from learner.backend import deepspeed_config
from learner.batching import collate, plan
from learner.objectives import Tokens, make_objective
from learner.schedule import learning_rate
from tests.learner.step_worker import NUM_STEPS, batch_of, config

TIMEOUT_S = 240
slow = pytest.mark.slow


def run_ranks(size: int, model_dir: Path, out: Path, dtype: str, stages: str) -> list[dict]:
    """Facts of each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(size):
        env = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-m", "tests.learner.step_worker"]
        processes.append(
            subprocess.Popen(
                [*command, str(model_dir), str(out), dtype, stages],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return [json.loads((out / f"rank_{rank}.json").read_text()) for rank in range(size)]


@cache
def plain_torch(model_dir: Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """The same updates on the whole batch at once: no micro-batches, no chunks, no DeepSpeed."""
    cfg = config(str(model_dir), 0)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=cfg.learner.lr, betas=(0.9, 0.95), weight_decay=0.1
    )
    objective = make_objective(cfg.objective)
    rows = []
    for step in range(1, NUM_STEPS + 1):
        batch = batch_of(step)
        advantages = normalise(batch.advantages, batch.groups, "batch")
        fields = {
            "mu": batch.behavior_logprobs,
            "advantages": np.repeat(advantages, batch.completion_lens),
            "mask": batch.mask.astype(bool),
            "weights": token_weights(batch, "token"),
        }
        micro = collate(batch, fields, list(range(batch.num_rollouts)))
        logits = model(input_ids=micro.input_ids).logits.flatten(0, 1)[micro.sources]
        log_p = (logits / cfg.actors.temperature).log_softmax(-1)
        logprobs = log_p.gather(1, micro.targets[:, None]).squeeze(1)
        tokens = Tokens(
            micro.fields["mu"],
            micro.fields["advantages"],
            micro.fields["mask"],
            micro.sequence,
            batch.num_rollouts,
        )
        terms = objective(logprobs, tokens)
        loss = ((terms.policy + terms.penalty) * micro.fields["weights"]).sum()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(cfg.learner, step - 1)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.learner.grad_clip)
        optimizer.step()
        x = (logprobs.detach() - micro.fields["mu"])[micro.fields["mask"]]
        rows.append(
            {
                "loss/total": loss.item(),
                "optim/grad_norm": float(norm),
                "ratio/mean": float(x.exp().mean()),
                "logprob_diff/max": float(x.abs().max()),
                "mismatch_kl/mean": float((x.exp() - 1 - x).mean()),
            }
        )
    return {name: p.detach().numpy() for name, p in model.named_parameters()}, rows


def check(out: Path, stage: int, facts: list[dict], model_dir: Path, tolerance: float) -> None:
    expected, rows = plain_torch(model_dir)
    assert all(row["optim/grad_norm"] > 1.1 for row in rows), "DeepSpeed clips to 1 unless told"
    actual = np.load(out / f"stage_{stage}.npz")
    assert set(actual.files) == set(expected)
    before = weights_of(model_dir)
    for name, weight in expected.items():
        moved = np.abs(weight - before[name]).max()
        assert moved > 1e-4, f"{name} did not train"
        np.testing.assert_allclose(actual[name], weight, rtol=0, atol=tolerance, err_msg=name)
    for rank in facts:
        for row, expected_row in zip(rank[str(stage)]["rows"], rows, strict=True):
            for name, value in expected_row.items():
                assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-6), (stage, name)
        assert "NaN or infinity in loss" in rank[str(stage)]["refused_loss"]
        assert "NaN or infinity in gradients" in rank[str(stage)]["refused_gradient"]


def weights_of(model_dir: Path) -> dict[str, np.ndarray]:
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


@slow
@pytest.mark.parametrize("size", [1, 2])
def test_steps_are_those_of_plain_torch(nano_dir: Path, tmp_path: Path, size: int) -> None:
    facts = run_ranks(size, nano_dir, tmp_path, "float32", "0,1,2,3")
    for stage in range(4):
        check(tmp_path, stage, facts, nano_dir, tolerance=1e-4)


@slow
def test_steps_with_tied_embeddings(nano_tied_dir: Path, tmp_path: Path) -> None:
    facts = run_ranks(2, nano_tied_dir, tmp_path, "float32", "0,3")
    for stage in (0, 3):
        check(tmp_path, stage, facts, nano_tied_dir, tolerance=1e-4)


@slow
def test_bfloat16_trains_float32_master_weights(nano_dir: Path, tmp_path: Path) -> None:
    facts = run_ranks(1, nano_dir, tmp_path, "bfloat16", "0,2,3")
    expected_weights, rows = plain_torch(nano_dir)
    before = weights_of(nano_dir)
    for stage in ("0", "2", "3"):
        actual = np.load(tmp_path / f"stage_{stage}.npz")
        for name in ("lm_head.weight", "model.layers.1.mlp.up_proj.weight"):
            moved = np.abs(actual[name] - before[name]).mean()
            expected_move = np.abs(expected_weights[name] - before[name]).mean()
            assert moved == pytest.approx(expected_move, rel=0.15)
        for row, expected in zip(facts[0][stage]["rows"], rows, strict=True):
            assert row["loss/total"] == pytest.approx(expected["loss/total"], abs=0.05)
            assert row["optim/grad_norm"] == pytest.approx(expected["optim/grad_norm"], rel=0.05)


def test_the_ranks_of_these_tests_differ() -> None:
    for step in range(1, NUM_STEPS + 1):
        batch = batch_of(step)
        max_tokens = config("", 0).learner.micro_batch_tokens
        first, second = plan(batch, 2, max_tokens)
        assert all(second) and not all(first), "a rank must get a micro-batch without rollouts"


def test_options_of_deepspeed_are_merged_over_ours() -> None:
    over = {"zero_optimization": {"reduce_bucket_size": 7}, "gradient_clipping": 0.5}
    merged = deepspeed_config(LearnerConfig(zero_stage=2, deepspeed=over), torch.float32)
    assert merged["zero_optimization"]["stage"] == 2
    assert merged["zero_optimization"]["reduce_bucket_size"] == 7
    assert merged["gradient_clipping"] == 0.5
    assert merged["managed_gradient_accumulation"] is False
