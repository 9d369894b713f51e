"""What `async_r1 eval CHECKPOINT` finds, and whose configuration it starts from."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_r1 import evaluate
from async_r1.checkpoints import find_checkpoint
from async_r1.compose import compose_jobs
from async_r1.config import Config
from async_r1.config_dir import resolve_path
from async_r1.errors import ConfigError
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import build, to_dict

VALUES: dict[str, Any] = {
    "experiment": "mine",
    "seed": 5,
    "dry_run": True,
    "model": {"init": "nano", "max_length": 200, "dtype": "bfloat16"},
    "task": {"template": "r1_zero", "levels": [2], "num_eval": 7, "max_new_tokens": 99},
    "run": {"name": "first", "dir": "elsewhere", "buffer_address": "tcp://a:1"},
    "evaluate": {"samples": 3, "k": [3]},
    "actors": {"engine": {"max_num_seqs": 3}},
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with checkpoints of versions 0 and 20, and one of version 100 being written."""
    run = RunDir.create(tmp_path / "lr=1" / "run")
    resolved = Resolved(
        config=build(Config, VALUES),
        run_dir=str(run.root),
        buffer_address="",
        weights_address="",
        started_at=0.0,
    )
    write_json(run.resolved, to_dict(resolved))
    for version in (0, 20, 100):
        hf = run.checkpoint(version) / "hf"
        hf.mkdir(parents=True)
        (hf / "config.json").write_text("{}")
        if version < 100:
            (run.checkpoint(version) / "COMPLETE").write_text("{}")
    return run


def test_a_run_is_its_newest_complete_checkpoint_under_its_own_task(run: RunDir) -> None:
    found = find_checkpoint(str(run.root))
    assert found.path == str(run.checkpoint(20) / "hf")
    assert found.label == "run-version_000020"
    assert found.config is not None
    assert found.config.task == build(Config, VALUES).task
    assert found.config.run == replace(Config().run, dir="elsewhere")
    assert not found.config.dry_run and found.config.evaluate == Config().evaluate


@pytest.mark.parametrize("part", ["checkpoints/version_000000", "checkpoints/version_000000/hf"])
def test_a_checkpoint_of_a_run_is_that_one(run: RunDir, part: str) -> None:
    found = find_checkpoint(str(run.root / part))
    assert found.path == str(run.checkpoint(0) / "hf")
    assert found.label == "run-version_000000" and found.config is not None


def test_models_need_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    found = find_checkpoint(str(tmp_path))
    assert (found.path, found.label, found.config) == (str(tmp_path), tmp_path.name, None)
    assert find_checkpoint("Qwen/Qwen3-0.6B").path == "Qwen/Qwen3-0.6B"
    assert find_checkpoint("Qwen/Qwen3-0.6B").label == "Qwen3-0.6B"
    assert find_checkpoint("configs:checkpoints/nano").path.endswith("configs/checkpoints/nano")


def test_what_is_no_checkpoint_is_named(run: RunDir, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="is no checkpoint: neither a model"):
        find_checkpoint(str(empty))
    with pytest.raises(ConfigError, match="is no checkpoint"):
        find_checkpoint(str(run.logs))
    with pytest.raises(ConfigError, match=r"model\.path must be a directory"):
        find_checkpoint("./nowhere")
    for version in (0, 20):
        (run.checkpoint(version) / "COMPLETE").unlink()
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        find_checkpoint(str(run.root))


def composed(run: RunDir, *overrides: str) -> Config:
    base = find_checkpoint(str(run.root)).config
    (job,) = compose_jobs("eval", overrides, lambda config: config, base)
    return job.config


def test_without_overrides_the_runs_configuration_stands(run: RunDir) -> None:
    assert composed(run) == find_checkpoint(str(run.root)).config


def test_overrides_change_single_options(run: RunDir) -> None:
    found = composed(run, "task.num_eval=9", "evaluate.samples=2", "seed=1", "dry_run=true")
    assert found.task == replace(build(Config, VALUES).task, num_eval=9)
    assert (found.evaluate.samples, found.seed, found.dry_run) == (2, 1, True)
    assert found.actors.engine == {"max_num_seqs": 3}
    more = composed(run, "actors.engine.enforce_eager=true", "task.options.layout=table")
    assert more.actors.engine == {"max_num_seqs": 3, "enforce_eager": True}
    assert more.task.options == {"layout": "table"} and more.task.template == "r1_zero"


def test_a_sweep_is_named_after_what_was_given(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = find_checkpoint(str(run.root)).config
    given = ["-m", "seed=0,1", "task=arithmetic"]
    jobs = compose_jobs("eval", given, lambda config: config, base)
    assert [job.overrides for job in jobs] == [
        ("seed=0", "task=arithmetic"),
        ("seed=1", "task=arithmetic"),
    ]
    assert [Path(job.directory).name for job in jobs] == [
        "seed=0,task=arithmetic",
        "seed=1,task=arithmetic",
    ]


def test_a_group_replaces_its_section_and_a_preset_goes_on_top(run: RunDir) -> None:
    found = composed(run, "task=arithmetic", "task.num_eval=9")
    assert found.task.template == "plain" and found.task.options == {"layout": "table"}
    assert (found.task.num_eval, found.model.max_length) == (9, 200)
    assert composed(run, "experiment=smoke").task.levels == [2, 3]


@pytest.mark.parametrize("argv", [[], ["task.num_eval=3"], ["--multirun"]])
def test_eval_asks_for_its_checkpoint(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a checkpoint first"):
        evaluate.main(argv)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["evaluate.k=[1,9]"], "evaluate.k must hold numbers from 1 to evaluate.samples=8, got 9"),
        (["evaluate.k=[]"], "evaluate.k must hold a number at least"),
        (["evaluate.samples=0", "evaluate.greedy=false"], "nothing would be measured"),
        (["evaluate.reflection_words=['']"], "evaluate.reflection_words must hold words"),
        (["task.max_new_tokens=384"], "task.max_new_tokens must be < model.max_length=384"),
        (["curate.guess_tokens=384"], "curate.guess_tokens must be < model.max_length=384"),
        (["task.system_prompt=hi"], "task.system_prompt has no effect with task.template=plain"),
        (["task.template=chat"], "task.template=chat needs a tokenizer with a chat template"),
        (["actors.engine.seed=1"], "actors.engine.seed is not free"),
    ],
)
def test_what_could_not_run_is_refused_before_a_process_starts(
    overrides: list[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(error)):
        evaluate.main(["configs:checkpoints/nano", *overrides])
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_one_actor(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_r1.evaluate.find_checkpoint", lambda given: _with_nano(run))
    assert evaluate.main([str(run.root), "dry_run=true"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[:3] if line] == ["role", "actor_000"]
    assert re.search(r"directory +elsewhere/eval-label-\d", shown[-1])
    assert not Path("elsewhere").exists()


def _with_nano(run: RunDir) -> Any:
    checkpoint = find_checkpoint(str(run.root))
    return replace(checkpoint, path=resolve_path("configs:checkpoints/nano"), label="label")
