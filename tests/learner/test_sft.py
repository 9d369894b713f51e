"""The cold start as a process of its own, from a model that it makes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from async_r1 import schema
from async_r1.config import Config
from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError
from async_r1.metrics import read_rows
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.templates import PromptForm
from learner.examples import tokenise

VALUES = {
    "experiment": "test",
    "seed": 3,
    "model": {"init": "nano"},
    "learner": {"micro_batch_tokens": 1024, "betas": [0.9, 0.95]},
    "task": {"levels": [1, 2], "num_train": 100, "num_eval": 10},
    "sft": {
        "phases": [
            {"updates": 25, "lr": 3e-3, "batch_size": 16, "warmup_updates": 5, "levels": [1],
             "styles": {"careful": 1.0}},
            {"updates": 5, "lr": 1e-3, "batch_size": 8, "warmup_updates": 2,
             "styles": {"blunt": 0.7, "careful": 0.3}},
        ]
    },
}  # fmt: skip


@pytest.mark.slow
def test_cold_start(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "run")
    out = tmp_path / "coldstart"
    (run_dir.config / "overrides.yaml").write_text("- experiment=test\n- seed=3\n")
    values = {**VALUES, "sft": {**VALUES["sft"], "out": str(out)}}
    resolved = Resolved(
        config=schema.build(Config, values),
        run_dir=str(run_dir.root),
        buffer_address="",
        weights_address="",
        started_at=time.time(),
    )
    write_json(run_dir.resolved, schema.to_dict(resolved))
    process = subprocess.run(
        [sys.executable, "-m", "learner", "--config", str(run_dir.resolved), "--sft"],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr

    rows = read_rows(run_dir.metrics_file("learner"))
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[0]["loss/sft"] == pytest.approx(np.log(128), rel=0.1)
    assert rows[24]["loss/sft"] < 0.6 * rows[0]["loss/sft"]
    lrs = [row["optim/lr"] for row in rows]
    assert max(lrs[:25]) == lrs[4] == 3e-3 and lrs[24] == pytest.approx(3e-4)
    assert max(lrs[25:]) == 1e-3

    facts = json.loads((out / "coldstart.json").read_text())
    assert facts["command"] == "async_r1 sft experiment=test seed=3"
    assert facts["seed"] == 3
    assert facts["config"] == json.loads(json.dumps(schema.to_dict(resolved.config)))
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.decode(tokenizer.encode("12+34=?")) == "12+34=?"
    assert sum(p.numel() for p in model.parameters()) < 1_000_000


def test_examples_keep_prompt_and_completion_apart(nano_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano_dir)
    pairs = [("1+1=?", "<think></think><answer>2</answer>"), ("22+1=?", "23")]
    found = tokenise(PromptForm(TaskConfig(), tokenizer), pairs, max_length=40)
    assert found.prompt_lens.tolist() == [6, 7]
    assert found.completion_lens.tolist() == [6, 3]
    stop = tokenizer.eos_token_id
    assert found.token_ids[[5, 8]].tolist() == [stop, stop]
    assert tokenizer.decode(found.token_ids[:5]) == pairs[0][1]
    assert tokenizer.decode(found.prompt_ids) == "1+1=?\n22+1=?\n"


def test_examples_that_do_not_fit_are_named(nano_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano_dir)
    with pytest.raises(ConfigError, match=r"model\.max_length must be >= 12 .* got 11: '1\+1'"):
        tokenise(PromptForm(TaskConfig(), tokenizer), [("1+1", "2345678")], max_length=11)
