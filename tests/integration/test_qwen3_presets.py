"""The presets of real models: composed, planned for named GPUs, and run at a tiny size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from async_r1 import rules
from async_r1.compose import compose
from async_r1.errors import ConfigError
from async_r1.launch import main
from tests.integration.runs import launch, rows

PRESETS = {"qwen3_0_6b": "2xH100-80", "qwen3_1_7b": "4xH100-80", "qwen3_8b": "8xH100-80"}
TINY = (
    "model.init=random",
    "model.shape={hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, "
    "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, vocab_size: 256}",
    *("run.device=cpu", "task=arithmetic", "actors=cpu", "actors.engine.tensor_parallel_size=1"),
    *("actors.count=1", "actors.max_concurrent=16", "actors.segment_tokens=16"),
    *("actors.rollout_token_budget=32", "actors.engine.kv_cache_memory_bytes=67108864"),
    *(
        "model.max_length=256",
        "task.template=plain",
        "task.system_prompt=",
        "task.max_new_tokens=48",
    ),
    *("task.num_train=64", "task.num_eval=2", "eval.every=0", "buffer.keep_zero_variance=true"),
    *("learner.ranks=1", "learner.micro_batch_tokens=512", "learner.groups_per_update=2"),
    *("learner.num_updates=1", "learner.warmup_updates=0", "buffer.group_size=4"),
)
# Twice the model's positions, and weights so large that wrong rotary embeddings would show.
SCALED = (
    *("model.dtype=float32", "model.shape.initializer_range=0.3"),
    "model.shape.max_position_embeddings=128",
    "model.rope_scaling={rope_type: yarn, factor: 2.0, original_max_position_embeddings: 128}",
)


@pytest.mark.parametrize("context", ["", "8k", "16k", "32k", "64k_yarn"])
@pytest.mark.parametrize("preset", PRESETS)
def test_one_option_changes_the_context(preset: str, context: str) -> None:
    config = compose([f"experiment={preset}", *([f"context={context}"] if context else [])])
    rules.check(config)
    length = config.model.max_length
    assert 8192 <= length <= 65536
    if context:
        assert length == 1024 * int(context.split("k")[0])
    assert config.task.max_new_tokens == length - 1024
    assert config.learner.micro_batch_tokens >= length
    assert config.actors.segment_tokens < config.actors.rollout_token_budget < length / 2
    assert config.task.template == "chat" and config.task.name == "hf"
    assert config.model.dtype == "bfloat16" and config.learner.lr == 1e-6


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dry_run_says_that_it_fits_the_named_gpus(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the model's name alone: nothing is downloaded."""
    gpus = PRESETS[preset]
    assert main([f"experiment={preset}", "dry_run=true", f"run.plan_for={gpus}"]) == 0
    shown = capsys.readouterr().out
    fits = re.findall(r"^GPU (\d+) .* <= 79\.6 GiB of an H100-80: fits$", shown, re.MULTILINE)
    assert fits == [str(index) for index in range(int(gpus[0]))]
    assert re.search(r"the KV cache holds [1-9]\d* rollouts of \d+ tokens", shown)
    assert "memory is unknown" not in shown


def test_a_dry_run_says_that_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["experiment=qwen3_8b", "context=64k_yarn", "dry_run=true", "run.plan_for=8xRTX4090"]
    assert main(options) == 0
    shown = capsys.readouterr().out
    line = r"^GPU 0 +learner_000 [\d.]+ > 24\.0 GiB of an RTX4090-24: does not fit$"
    assert re.search(line, shown, re.MULTILINE)


def test_more_positions_than_the_model_has_need_scaling() -> None:
    options = ["experiment=qwen3_8b", "context=64k", "dry_run=true", "run.plan_for=8xH200"]
    with pytest.raises(ConfigError) as raised:
        main(options)
    assert "model.max_length must be <= 40960, the positions of the model, got 65536" in str(
        raised.value
    )
    assert main([*options, "context=64k_yarn"]) == 0


def test_without_gpus_the_way_out_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "async_r1", "launch", "experiment=qwen3_8b", "run.device=gpu"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "run.device=cpu, or see what would fit with dry_run=true and run.plan_for" in line


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_with_random_weights_of_its_shape_shrunk(preset: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    scaling = SCALED if preset == "qwen3_8b" else ()
    run = launch(tmp_path, f"experiment={preset}", *TINY, *scaling)
    (step,) = rows(run, "learner")
    assert step["policy_version"] == 0 and step["batch/num_rollouts"] >= 2
    # The learner's log-probs are the actor's.
    assert abs(step["mismatch_kl/mean"]) < (1e-4 if scaling else 0.01)
    assert step["time/transfer_s"] > 0
    trained = AutoModelForCausalLM.from_pretrained(run.checkpoint(1) / "hf", dtype="auto")
    assert trained.dtype.itemsize == (4 if scaling else 2) and trained.config.hidden_size == 64
    assert trained.config.tie_word_embeddings is (preset != "qwen3_8b")
    rope = trained.config.rope_parameters["rope_type"]
    assert rope == ("yarn" if scaling else "default")


@pytest.mark.slow
def test_a_shape_that_makes_no_model_is_one_line(tmp_path: Path) -> None:
    for change, error in (
        ("vocab_size: 100", "model.shape.vocab_size must be >= 128"),
        ("model_type: qwen33", "model.shape makes no model: ValueError"),
    ):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "async_r1", "launch", "experiment=qwen3_0_6b", *TINY),
                *("model.shape={" + change + "}", f"run.dir={tmp_path}", "run.name=" + change[:5]),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 2, done.stderr
        assert error in done.stderr and len(done.stderr.splitlines()) == 1
