"""The shipped configs tree, and what Hydra makes of it."""

import json
import os
from pathlib import Path

import pytest

from async_r1 import rules
from async_r1.compose import compose, compose_jobs
from async_r1.config import Config
from async_r1.config_dir import config_dir, groups, resolve_path
from async_r1.errors import ConfigError
from async_r1.role import Resolved
from async_r1.run_dir import read_json, write_json
from async_r1.schema import build, to_dict

CHOICES = [(group, choice) for group, choices in groups().items() for choice in choices]


def check(config: Config) -> None:
    """The rules of the command that the configuration is for."""
    if config.sft.phases:
        rules.check_sft(config)
    else:
        rules.check(config)


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_shipped_choice_composes(group: str, choice: str) -> None:
    # Models and tasks are for each other: a long answer needs more room than the nano model has.
    room = ["model.max_length=8192", "learner.micro_batch_tokens=8192"]
    config = compose([f"{group}={choice}", *(room if group in ("task", "model") else [])])
    check(config)
    if group == "experiment":
        assert config.experiment == choice


@pytest.mark.parametrize("experiment", groups()["experiment"])
def test_resolved_json_holds_the_whole_configuration(experiment: str, tmp_path: Path) -> None:
    resolved = Resolved(
        config=compose([f"experiment={experiment}"]),
        run_dir=str(tmp_path),
        buffer_address="tcp://127.0.0.1:1",
        weights_address="tcp://127.0.0.1:2",
        started_at=1.5,
        threads={"actor_000": 1},
    )
    write_json(tmp_path / "resolved.json", to_dict(resolved))
    assert build(Resolved, read_json(tmp_path / "resolved.json")) == resolved


def test_no_arguments_give_the_defaults_of_the_groups() -> None:
    config = compose()
    assert config.experiment == ""
    assert config.mode == "async" and config.staleness.eta == 4
    assert config.buffer.sampler == "fifo" and config.actors.in_process


def test_the_command_line_has_the_last_word() -> None:
    config = compose(["experiment=smoke", "learner.num_updates=7", "+objective=grpo"])
    assert config.learner.num_updates == 7
    assert config.learner.groups_per_update == 4
    assert config.objective.name == "grpo"


def test_synchronous_presets_are_synchronous() -> None:
    for overrides in (["staleness=sync"], ["experiment=demo_sync"]):
        config = compose(overrides)
        assert (config.mode, config.staleness.eta) == ("sync", 0)


def test_keys_of_free_mappings_need_no_plus() -> None:
    config = compose(
        [
            "actors.engine.max_num_seqs=4",
            "actors.engine.compilation_config.level=0",
            "learner.deepspeed={zero_optimization: {overlap_comm: true}}",
            "task.options.some=text",
            "task.levels.0=3",
        ]
    )
    assert config.actors.engine["max_num_seqs"] == 4
    assert config.actors.engine["compilation_config"] == {"level": 0}
    assert config.actors.engine["enforce_eager"] is True  # merged, not replaced
    assert config.learner.deepspeed == {"zero_optimization": {"overlap_comm": True}}
    assert config.task.options["some"] == "text"
    assert config.task.levels[:2] == [3, 2]


def test_a_phase_of_a_preset_can_be_changed() -> None:
    config = compose(["experiment=nano_coldstart", "sft.phases.0.updates=3"])
    assert config.sft.phases[0].updates == 3
    assert config.sft.phases[1] == compose(["experiment=nano_coldstart"]).sft.phases[1]


def test_a_sweep_gives_every_job_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = compose_jobs("launch", ["-m", "seed=0,1", "learner.lr=1e-4,1e-5"], lambda c: c)
    assert [(job.config.seed, job.config.learner.lr) for job in jobs] == [
        (0, 1e-4),
        (0, 1e-5),
        (1, 1e-4),
        (1, 1e-5),
    ]
    directories = {job.directory for job in jobs}
    assert len(directories) == 4
    (sweep,) = (tmp_path / "sweeps").iterdir()
    assert {Path(directory).parent for directory in directories} == {sweep}
    assert Path(jobs[0].directory).name == "learner.lr=0.0001,seed=0"


def test_a_bad_value_in_the_last_job_of_a_sweep_is_found_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="seed must be >= 0, got -1"):
        compose_jobs("launch", ["-m", "seed=0,1,-1"], lambda c: c)


def test_composing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    compose(["experiment=smoke"])
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_presets_of_the_user(tmp_path: Path) -> None:
    experiment = tmp_path / "experiment"
    experiment.mkdir()
    head = "# @package _global_\n"
    (experiment / "mine.yaml").write_text(head + "defaults: [demo, _self_]\nlearner: {lr: 3e-4}\n")
    (experiment / "typo.yaml").write_text(head + "learner: {lrr: 3e-4}\n")
    (experiment / "gone.yaml").write_text(head + "defaults: [nowhere]\n")
    (experiment / "broken.yaml").write_text(head + "learner: {lr: [\n")
    flag = ["--config-dir", str(tmp_path)]
    config = compose([*flag, "experiment=mine"])
    assert (config.experiment, config.learner.lr) == ("mine", 3e-4)
    assert config.task == compose(["experiment=demo"]).task
    for name, error in (
        ("typo", "unknown option learner.lrr; did you mean learner.lr?"),
        ("gone", "In 'experiment/gone': Could not load 'experiment/nowhere'."),
        ("broken", "broken.yaml"),
    ):
        with pytest.raises(ConfigError) as raised:
            compose([*flag, f"experiment={name}"])
        assert error in str(raised.value) and "\n" not in str(raised.value)


def test_model_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({}))
    assert resolve_path("models/mine") == str(model)
    assert resolve_path("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    for path in ("models", "./nowhere", "/nowhere", "a/b/c"):
        with pytest.raises(ConfigError, match=r"model\.path must be a directory with a config"):
            resolve_path(path)
    with pytest.raises(ConfigError, match=r"model\.path must be a model in the configs tree"):
        resolve_path("configs:checkpoints/nowhere")


def test_the_tree_is_the_checkouts_own() -> None:
    assert config_dir() == Path(__file__).parents[2] / "configs"
