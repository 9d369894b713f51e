"""What the benchmark of the loop on GPUs computes, and that all of it runs without one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER

Script = Callable[[str], ModuleType]


def test_figures_by_hand(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 3 to 5 count; each trains 600 tokens in 2 s and sends 1,000 bytes in half a second."""
    module = script("gpu_loop")
    values = {
        "model_type": "qwen3",
        "hidden_size": 8,
        "num_hidden_layers": 3,
        "vocab_size": 10,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": 16,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = SimpleNamespace(model=SimpleNamespace(path=str(tmp_path)))
    monkeypatch.setattr(module, "config_of", lambda view: config)
    step = {
        "time/train_s": 2.0,
        "time/transfer_s": 0.5,
        "time/publish_s": 0.7,
        "publish/bytes": 1000.0,
        "learner/idle_frac": 0.1,
        "staleness/mean": 1.0,
        "mismatch_kl/mean": 0.0,
        "completion_length/mean": 50.0,
    }
    slow = {**step, "time/train_s": 100.0, "time/transfer_s": 100.0}
    steps = [{**(slow if i < 2 else step), "tokens": 600 * (i + 1)} for i in range(5)]
    row = {
        "perf/tokens_per_s": 300.0,
        "actor/engine_frac": 0.75,
        "actor/idle_frac": 0.2,
        "time/update_s": 0.3,
    }
    view: Any = SimpleNamespace(steps=steps, actors={"actor_000": [row] * 5})
    found = module.figures(
        view, {"copy_bytes_per_s": 10_000.0, "product_flops": 1e6}, {"tokens_per_s": 500.0}
    )
    assert found["bytes_per_s"] == 2000 and found["transfer_over_copy"] == pytest.approx(0.2)
    assert found["update_pause_s"] == 0.3 and found["publish_s"] == 0.7
    assert found["actor_over_bare"] == pytest.approx(0.6)
    assert found["engine_over_bare"] == pytest.approx(0.8)
    assert found["learner_tokens_per_s"] == pytest.approx(300)
    layer = 8 * 4 * (2 + 1 + 1 + 2) + 3 * 8 * 16 + 2 * 8 + 2 * 4  # q, k, v, o; MLP; norms
    multiplied = 3 * layer + 8 + 10 * 8  # the final norm and the projection
    flops = 300 * (6 * multiplied + 6 * 3 * 8 * 50)
    assert found["learner_share_of_product"] == pytest.approx(flops / 1e6)


def test_where_the_roles_run(script: Script) -> None:
    module = script("gpu_loop")
    options: Any = SimpleNamespace(cpu=False)

    def machine(gpus: int) -> Any:
        return SimpleNamespace(usable_gpus=gpus, gpus=[SimpleNamespace(memory_mib=1000)])

    assert module.default_backend(options, machine(2)) == "nccl"
    assert module.placement(options, machine(2), "nccl") == [
        *("weights.backend=nccl", "run.device=gpu")
    ]
    assert module.default_backend(options, machine(1)) == "ipc"
    for backend in ("ipc", "gloo"):
        placed = module.placement(options, machine(1), backend)
        assert "run.colocate=true" in placed
        assert f"actors.engine.kv_cache_memory_bytes={300 << 20}" in placed
    assert module.placement(SimpleNamespace(cpu=True), machine(0), "gloo")[0] == "run.device=cpu"


@pytest.mark.parametrize(("gpus", "backend"), [(2, "nccl"), (1, "ipc"), (1, "gloo")])
def test_what_runs_on_gpus_composes_and_fits(script: Script, gpus: int, backend: str) -> None:
    """The options that no machine without a GPU can try, up to the plan."""
    from async_r1.compose import compose_jobs
    from async_r1.gpus import parse_gpus
    from async_r1.launch import prepare
    from async_r1.model_shape import model_shape
    from async_r1.plan import plan

    module = script("gpu_loop")
    args: Any = SimpleNamespace(cpu=False, quick=False, updates=0)
    (kind,) = parse_gpus("1xH100-80")
    machine: Any = SimpleNamespace(usable_gpus=gpus, gpus=[kind] * gpus)
    options = [*module.overrides(args), *module.placement(args, machine, backend)]
    (job,) = compose_jobs("launch", options, prepare)
    shape, _ = model_shape(job.config)
    assert shape is not None and 590e6 < shape.num_parameters < 600e6
    planned = plan(job.config, 16, gpus=[str(i) for i in range(gpus)], gpu=kind, shape=shape)
    assert len(planned.gpus) == gpus and all(fit.fits for fit in planned.gpus)


def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu_loop.py")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: gpu_loop needs a GPU that torch can use, there is none")


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_the_whole_loop_without_a_gpu() -> None:
    """Only that it works: at this size the figures say nothing."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gpu_loop.py"), "--cpu", "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result = json.loads(done.stdout.rstrip().splitlines()[-1])
    assert result["weight_bytes"] == 2 * result["parameters"]
    assert result["weights"] == "gloo" and result["gpus"] == 0
    for name, value in result.items():
        if name.endswith(("_per_s", "_flops")):
            assert value > 0, name
    assert 0 < result["transfer_s"] <= result["publish_s"] < 10
    assert abs(result["mismatch_kl"]) < 1e-3
