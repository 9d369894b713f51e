"""What each benchmark computes and prints, from measurements made up here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER

Script = Callable[[str], ModuleType]
LastLine = Callable[..., dict[str, Any]]


def test_actor_throughput_is_the_median_of_pairs(
    script: Script, last_line: LastLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("actor_throughput")
    shares = {"engine": 0.9, "scoring": 0.01, "everything else": 0.09}
    pairs = [
        {"actor": actor, "bare": bare, **shares}
        for actor, bare in ((90.0, 100.0), (99.0, 100.0), (480.0, 500.0))
    ]
    monkeypatch.setattr(module, "measure", lambda *_, **__: pairs)
    result = last_line(module)
    assert result["ratio"] == pytest.approx(0.96)
    assert result["limit"] == 0.95 and result["concurrency"] == 64
    assert {"torch", "cores", "processor"} <= result.keys()


def test_async_vs_sync_divides_medians_over_seeds(
    script: Script, last_line: LastLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("async_vs_sync")

    def measure(_: Any, __: Any, mode: str, ___: Any, *, seed: int, updates: int) -> dict[str, Any]:
        slow = 2.0 if mode == "sync" else 1.0
        return {
            "seed": seed,
            "to_target_s": slow * (50 + seed),
            "to_target_from_launch_s": slow * (50 + seed) + 10,
            "to_target_versions": 40.0,
            "last_accuracy": 0.9,
            "staleness": slow - 1,
            "step_s": slow,
            "trained_per_s": 3000 / slow,
            "sampled_per_s": 4000 / slow,
            "tokens_trained": 1000,
            "actor_idle_frac": 0.1,
            "learner_idle_frac": 0.3,
            "core_seconds": {"sampling": 50.0, "training": 30.0, "start and end": 9.0, "rest": 1.0},
            "cpu_s": {"actor_000": 60.0, mode: 1.0},
            **dict.fromkeys(module.EFFICIENCY, 7.0),
        }

    monkeypatch.setattr(module, "measure", measure)
    result = last_line(module, "--seeds", "0,1,2")
    assert result["time_ratio"] == pytest.approx(2.0)
    assert result["time_ratio_from_launch"] == pytest.approx(112 / 61)
    assert result["tokens_ratio"] == pytest.approx(2.0)
    assert [row["seed"] for row in result["runs"]["sync"]] == [0, 1, 2]


def test_an_accuracy_curve_ends_after_two_in_a_row_and_has_the_last(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("async_vs_sync")
    levels = {0: 0.0, 5: 0.95, 10: 0.8, 15: 0.9, 20: 0.92, 25: 0.94, 30: 0.97}
    asked: list[int] = []

    def accuracies(paths: list[Path], held_out: list[Any], tokens: int) -> Iterator[float]:
        assert len(held_out) == 7 and tokens > 0
        for path in paths:
            asked.append(int(path.name) if path.name.isdigit() else 0)
            yield levels[asked[-1]]

    monkeypatch.setattr(script("greedy"), "accuracies", accuracies)
    kept = [(version, 2.0 * version, Path(str(version))) for version in levels if version]
    monkeypatch.setattr(script("activities"), "timed_checkpoints", lambda _: kept)
    run = SimpleNamespace(overrides=("experiment=demo", "task.num_eval=7"))
    curve = module.accuracy_curve(run, 0.9)
    assert asked == [0, 5, 10, 15, 20, 30]
    assert curve == [[version, 2.0 * version, levels[version]] for version in asked]


def test_a_steady_step_leaves_the_start_out(script: Script) -> None:
    module = script("async_vs_sync")
    assert module.steady_step_s([30.0, 31.0, 41.0, 43.0, 46.0, 48.0]) == 2.0
    assert module.steady_step_s([30.0]) == 0.0


def test_async_vs_sync_says_when_a_run_misses_the_accuracy(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("async_vs_sync")
    row = {"step_s": 1.0, "core_seconds": {"sampling": 1.0, "training": 1.0}}
    row |= dict.fromkeys(module.EFFICIENCY, 7.0)
    found = {"time_ratio": None, "tokens_ratio": 1.0}
    module.explain({"async": [row], "sync": [row]}, found)
    assert "did not reach" in capsys.readouterr().out


def test_versus_trl_divides_medians_and_explains(
    script: Script,
    last_line: LastLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    module = script("versus_trl")
    spent = {"sampling": 60.0, "training": 20.0, "start and end": 30.0, "waiting and other": 20.0}
    jobs = []

    def async_side(*given: Any) -> dict[str, Any]:
        jobs.append(given[3])
        return {"seconds": 50.0 + given[-1], "steps": 40.0, "step_s": 1.0, "core_seconds": spent}

    monkeypatch.setattr(module, "environment", lambda path: path / "bin/python")
    monkeypatch.setattr(module, "choose_micro_batch", lambda *_: (32, 2, []))
    monkeypatch.setattr(module, "async_side", async_side)
    monkeypatch.setattr(
        module, "trl_side", lambda _, job, __: {"seconds": 200.0, "steps": 50.0, "step_s": 4.0}
    )
    result = last_line(module, "--env", str(tmp_path), "--updates", "20")
    assert result["time_ratio"] == pytest.approx(200 / 51)
    assert result["goal"] == 3.0 and len(result["seeds"]) == 3
    job = jobs[0]
    assert len(job["prompts"]) == 20000 and len(job["held_out"]) == 384
    assert job["group_size"] == 8 and job["groups"] == 8 and job["lr"] == 1e-4
    assert len(job["lr_factors"]) == 20 and job["lr_factors"][5] == 1.0
    assert not {row["prompt"] for row in job["prompts"]} & {r["prompt"] for r in job["held_out"]}


def test_long_tail_accounts_for_every_token(script: Script) -> None:
    """By hand: 1,000 tokens arrive between the draws; of the 700 drawn 100 are masked, 150 more
    are in flight than before, so 150 were dropped."""
    module = script("long_tail")
    rows = [
        {"at_s": 10.0, "received": 500, "live": 200, "kept": 50, "drawn": [[250, 250, 1.0, 1]]},
        {"at_s": 12.0, "received": 900, "live": 100, "kept": 0, "drawn": [[300, 300, 1.0, 1]]},
        {
            "at_s": 15.0,
            "received": 1500,
            "live": 300,
            "kept": 100,
            "drawn": [[100, 100, 4.0, 1], [300, 200, 0.5, 3]],
        },
    ]
    found = module.summarize(rows, skip=1, median=100, staleness=2.0)
    assert found.sampled_per_s == 200 and found.trained_per_s == 120
    assert found.batch_s == 2.5 and found.batch_p90_s == 3.0
    assert found.masked_frac == pytest.approx(100 / 850)
    assert found.dropped_frac == pytest.approx(150 / 850)
    assert found.short_wait_s == 4.0 and found.long_wait_s == 0.0
    assert found.leases == pytest.approx(5 / 3)


def test_long_tail_compares_partial_with_whole(
    script: Script, last_line: LastLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = script("long_tail")
    monkeypatch.setattr(module.common, "endless_model", lambda *_, **__: None)

    def measure(_: Any, setting: Any, *__: Any) -> Any:
        trained = 1000.0 + 100 * setting.eta + (50 if setting.budget else 0)
        waits = {"short_wait_s": 2.0, "short_wait_p90_s": 3.0, "long_wait_s": 1.0}
        rates = {"sampled_per_s": 2000.0, "trained_per_s": trained}
        shares = {"masked_frac": 0.1, "dropped_frac": 0.05}
        batch = {"batch_s": 4.0 / (1 + bool(setting.budget)), "batch_p90_s": 5.0}
        return module.Result(**rates, **batch, **shares, **waits, leases=1.0, staleness=1.0)

    monkeypatch.setattr(module, "measure", measure)
    result = last_line(module, "--runs", str(tmp_path))
    effects = result["effects"]
    assert effects["eta_4_trained_ratio"] == pytest.approx(1450 / 1400)
    assert effects["eta_1_batch_time_ratio"] == 0.5
    assert effects["eta_1_partial_over_sync_trained_ratio"] == pytest.approx(1.15)
    assert [row["wasted_frac"] for row in result["settings"]] == [pytest.approx(0.15)] * 5


def test_core_seconds_add_up(script: Script, tmp_path: Path) -> None:
    """Of 2 cores for 100 s; a tenth of the sampled tokens evaluate."""
    module = script("activities")
    (tmp_path / "env.json").write_text(json.dumps({"cores": 2}))
    engine = {"time/engine_s": 40.0, "time/score_s": 1.0, "time/update_s": 2.0}
    view = SimpleNamespace(
        resolved={"threads": {"buffer": 1, "learner_000": 1, "actor_000": 1}},
        run_dir=SimpleNamespace(environment=tmp_path / "env.json"),
        actors={"actor_000": [{**engine, "tokens/sampled": n} for n in (500, 1000)]},
        evals=[{"eval/completion_length/mean": 10.0, "eval/num_prompts": 10}],
        steps=[{"time/train_s": 30.0, "time/publish_s": 1.0, "wall_s": w} for w in (50.0, 95.0)],
        recorded_s=100.0,
    )
    costs = SimpleNamespace(running_s={"actor_000": 10.0, "buffer": 3.0})
    spent = module.core_seconds(SimpleNamespace(view=view, costs=costs))
    assert spent == pytest.approx(
        {
            "sampling": 72.0,
            "training": 60.0,
            "evaluating": 8.0,
            "scoring": 2.0,
            "loading weights": 4.0,
            "publishing weights": 2.0,
            "start and end": 30.0,
            "waiting and other": 22.0,
        }
    )
    halved = module.core_seconds(SimpleNamespace(view=view, costs=costs), {"actor": 2})
    assert halved["sampling"] == 144.0


def test_buffer_ingest_takes_the_worst_number_of_connections(
    script: Script, last_line: LastLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("buffer_ingest")

    def row(tokens: int, connections: int, buffer: float) -> dict[str, Any]:
        measured = {"zmq": 100.0, "file": 300.0, "loop": 50.0 if tokens == 64 else None}
        measured |= {"cpu_us": 9.0, "zmq_cpu_us": 4.0, "loop_cpu_us": None}
        rest = {"cpu": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "bytes_per_token": 13.0}
        return {
            "tokens": tokens, "connections": connections, "round": 0, "buffer": buffer,
            **measured, **rest,
        }  # fmt: skip

    rows = [row(64, 1, 40.0), row(64, 8, 30.0), row(64, 8, 32.0), row(64, 8, 10.0)]
    rows += [row(16_384, 1, 70.0), row(16_384, 8, 65.0)]
    monkeypatch.setattr(module, "measure", lambda *_, **__: rows)
    result = last_line(module)
    assert result["fraction_of_bare_64"] == pytest.approx(0.6)
    assert result["fraction_of_limit_16384"] == pytest.approx(0.65)
    assert len(result["cells"]) == 4 and result["h200s"] == 30.0 / module.TOKENS_PER_S_H200


def test_buffer_ingest_windows_stay_inside_their_bounds(script: Script) -> None:
    module = script("buffer_ingest")
    for tokens in module.SEGMENTS:
        for connections in (1, 8, 64):
            window = module.Cell(tokens, connections, 1000).window
            assert 1 <= window * connections <= module.MAX_WAITING
            assert window * connections * tokens * 8 <= module.MAX_WAITING_BYTES


@pytest.mark.slow
def test_actor_throughput_measures_a_real_actor() -> None:
    """Only that it works: at this size, beside other tests, the ratio says nothing."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "actor_throughput.py"), "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result = json.loads(done.stdout.rstrip().splitlines()[-1])
    assert 0.1 < result["ratio"] < 2
    for pair in result["pairs"]:
        assert pair["actor"] > 0 and pair["bare"] > 0
        assert 0 < pair["engine"] <= 1 and pair["everything else"] >= 0


@pytest.mark.slow
def test_buffer_ingest_measures_a_real_buffer() -> None:
    """Only that it works: every side answers, and no segment is refused."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "buffer_ingest.py"), "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    result = json.loads(done.stdout.rstrip().splitlines()[-1])
    assert [cell["tokens"] for cell in result["cells"]] == [64, 1024, 16_384]
    for cell in result["cells"]:
        assert 0 < cell["of_limit"] < 10 and 0 < cell["p50_ms"] <= cell["p99_ms"]


def test_buffer_sample_divides_by_cpprb_and_by_a_step(
    script: Script, last_line: LastLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("buffer_sample")

    def side(name: str, job: dict[str, Any], python: str = sys.executable) -> dict[str, float]:
        if name == "step":
            return {"step_us": 100_000.0}
        if name == "batch":
            return {"batch_us": 2_000.0}
        us = (50.0 if name == "cpprb" else 120.0) * (job["size"] / 1e6) ** 0.5
        return {"draw_us": 0.75 * us, "update_us": 0.25 * us, "both_us": us}

    monkeypatch.setattr(module, "side", side)
    result = last_line(module, "--cpprb", "python-with-cpprb")
    assert result["vs_cpprb_1e6"] == pytest.approx(2.4)
    assert result["fraction_of_step"] == pytest.approx(0.0012)
    assert result["fraction_of_step_batch"] == pytest.approx(0.02)
    assert result["us"]["10000000"]["cpprb"]["draw_us"] == pytest.approx(118.6, abs=0.1)
    without = last_line(module)
    assert without["vs_cpprb_1e6"] is None and without["us"]["10000"]["cpprb"] is None
