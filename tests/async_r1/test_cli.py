"""The command line as a user meets it: help, errors in one line, exit codes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from async_r1 import cli
from async_r1.config import Config
from async_r1.config_dir import groups
from async_r1.schema import walk

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "async_r1", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of a model as planning reads."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    path.mkdir()
    shape = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 128,
    }
    (path / "config.json").write_text(json.dumps(shape))
    return path


@pytest.mark.parametrize(
    "arguments", [["--help"], ["launch", "--help"], ["sft", "-h"], ["eval", "-h"], ["curate", "-h"]]
)
def test_help_is_fast(arguments: list[str]) -> None:
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        started = time.monotonic()
        result = run(*arguments)
        seconds.append(time.monotonic() - started)
        assert result.returncode == 0 and result.stdout.startswith("async_r1 ")
    assert min(seconds) < 1.0


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from async_r1.cli import main; main(['launch', '--help']);"
        "print(sorted({'torch', 'vllm', 'hydra', 'numpy', 'zmq', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", "--help"]) == 0
    text = capsys.readouterr().out
    words = text.replace(",", " ").split()
    for name, field, _ in walk(Config):
        if name not in groups():
            assert name in words
            assert field.metadata["doc"] in text
    for group, choices in groups().items():
        assert {group, *choices} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["lanch"], "unknown command 'lanch'; did you mean launch?"),
        (["xyz"], "unknown command 'xyz'; there are launch, sft, eval, curate, report, "),
        (["launch", "learner.lrr=1"], "unknown option learner.lrr; did you mean learner.lr?"),
        (
            ["launch", "actor.temperature=1"],
            "unknown option actor.temperature; did you mean actors.temperature?",
        ),
        (["launch", "lr=1"], "unknown option lr; did you mean learner.lr?"),
        (
            ["launch", "temperature=1"],
            "unknown option temperature; did you mean actors.temperature or eval.temperature or ",
        ),
        (
            ["launch", "buffer=unifrom"],
            "buffer must be one of fifo, lifo, per, prioritized, replay, uniform, got 'unifrom'; "
            "did you mean buffer=uniform?",
        ),
        (
            ["launch", "demo"],
            "an override is name=value, got 'demo'; did you mean experiment=demo?",
        ),
        (["launch", "learner.lr=abc"], "learner.lr must be a number, got 'abc'"),
        (["launch", "learner.lr=-1"], "learner.lr must be > 0, got -1.0"),
        (["launch", "learner.zero_stage=4"], "learner.zero_stage must be >= 0 and <= 3, got 4"),
        (["launch", "seed=1.5"], "seed must be an integer, got 1.5"),
        (["launch", "dry_run=1"], "dry_run must be true or false, got 1"),
        (
            ["launch", "mode=snyc"],
            "mode must be one of 'async', 'sync', got 'snyc'; did you mean 'sync'?",
        ),
        (["launch", "task.levels=[1,x]"], "task.levels[1] must be an integer, got 'x'"),
        (["launch", "run={name: x}"], "run is a section, got 'run={name: x}'"),
        (["launch", "seed=1,2"], "seed must be one value, got '1,2'; add -m to sweep"),
        (["launch", "run.name=[1"], "cannot read 'run.name=[1'; quote"),
        (["launch", "run.name=${sed}"], "run.name: Interpolation key 'sed' not found"),
        (["launch", "~learner.lr"], "options cannot be removed, got '~learner.lr'"),
        (["launch", "--dry-run"], "unrecognized arguments: --dry-run"),
        (["launch", "--config-dir", "nowhere"], "--config-dir must be a directory, got 'nowhere'"),
        (["launch", "model.path=./nowhere"], "model.path must be a directory with a config.json"),
        (["launch", "mode=sync"], "mode=sync needs staleness.eta=0, got 4"),
        (["launch", "experiment=nano_coldstart"], "model.init=nano is for async_r1 sft"),
        (["sft"], "sft.phases must have at least one phase, got []"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {error}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["launch", "learner.lrr=1"], ["launch", "learner.lr=x"], ["lanch"]]
)
def test_a_mistake_ends_the_process_with_2_and_no_traceback(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr


def test_cfg_prints_the_configuration(tmp_path: Path) -> None:
    result = run("launch", "experiment=smoke", "--cfg", "job", "--package", "learner", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "groups_per_update: 4" in result.stdout.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path, model_dir: Path) -> None:
    result = run(
        *("launch", "experiment=smoke", "dry_run=true", "run.num_cores=4"),
        *("actors.count=2", f"model.path={model_dir}"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["role", "threads", "GPUs", "memory", "command"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:5]}
    assert list(rows) == ["buffer", "learner_000", "actor_000", "actor_001"]
    assert [row[0] for row in rows.values()] == ["1", "2", "1", "1"]
    assert all(float(row[2]) > 0 and row[3] == "GiB" for row in rows.values())
    assert "staleness  at most 4 versions" in result.stdout
    assert lines[-1].startswith("directory  runs/smoke-tiny-")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_runs_each_job_in_its_directory(tmp_path: Path, model_dir: Path) -> None:
    overrides = ("experiment=smoke", "dry_run=true", f"model.path={model_dir}")
    result = run("launch", "-m", *overrides, "seed=0,1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    named = [line.split()[1] for line in result.stdout.splitlines() if "directory" in line]
    assert len(set(named)) == 2 and all(Path(directory).is_dir() for directory in named)


def test_sft_needs_no_buffer(tmp_path: Path) -> None:
    result = run("sft", "experiment=nano_coldstart", "dry_run=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "learner_000" in result.stdout
    assert "buffer" not in result.stdout and "actor" not in result.stdout
