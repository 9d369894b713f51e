"""Names and files of a run before it starts."""

from pathlib import Path
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.errors import RunDirError
from async_r1.machine import read_machine
from async_r1.ports import free_ports
from async_r1.records import new_run_dir, run_name, write_records
from async_r1.role import Resolved
from async_r1.run_dir import read_json
from async_r1.schema import build, to_dict

NOW = 1_795_229_838.0


def config(tmp_path: Path, **sections: Any) -> Config:
    return build(Config, {"run": {"dir": str(tmp_path / "runs")}, **sections})


@pytest.mark.parametrize(
    ("sections", "start"),
    [
        ({"experiment": "demo", "model": {"path": "a/b/nano"}}, "demo-nano-26"),
        ({"model": {"path": "Qwen/Qwen3-0.6B"}}, "Qwen3-0.6B-26"),
        ({"experiment": "cold", "model": {"init": "nano"}}, "cold-nano-26"),
    ],
)
def test_a_run_is_named_after_preset_model_and_time(
    sections: dict[str, Any], start: str, tmp_path: Path
) -> None:
    assert run_name(config(tmp_path, **sections), NOW).startswith(start)


def test_runs_of_one_second_get_directories_of_their_own(tmp_path: Path) -> None:
    wanted = config(tmp_path, model={"path": "m"})
    roots = [new_run_dir(wanted, NOW).root for _ in range(3)]
    assert len(set(roots)) == 3
    assert [root.name for root in roots] == [
        run_name(wanted, NOW) + end for end in ("", "-2", "-3")
    ]


def test_a_named_run_is_never_overwritten(tmp_path: Path) -> None:
    wanted = build(Config, {"run": {"dir": str(tmp_path), "name": "mine"}})
    run = new_run_dir(wanted, NOW)
    again = new_run_dir(wanted, NOW)  # nothing has started in it
    assert run.root == again.root == tmp_path / "mine"
    run.resolved.write_text("{}")
    with pytest.raises(RunDirError, match=r"mine already holds a run; choose another run\.name"):
        new_run_dir(wanted, NOW)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = build(Config, {"run": {"dir": str(tmp_path / "file")}})
    with pytest.raises(RunDirError, match=r"cannot make the run directory .*file/"):
        new_run_dir(wanted, NOW)


def test_what_is_written_down(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    wanted = config(tmp_path, model={"path": "m"}, learner={"lr": 3e-5})
    run = new_run_dir(wanted, NOW)
    resolved = Resolved(
        config=wanted,
        run_dir=str(run.root),
        buffer_address="tcp://127.0.0.1:1",
        weights_address="tcp://127.0.0.1:2",
        started_at=NOW,
    )
    write_records(run, resolved, ["learner.lr=3e-5"], read_machine())
    assert build(Resolved, read_json(run.resolved)) == resolved
    composed: Any = OmegaConf.to_container(OmegaConf.load(run.config / "config.yaml"))
    assert composed == to_dict(wanted)
    assert (run.config / "overrides.yaml").read_text() == "- learner.lr=3e-5\n"
    environment = read_json(run.environment)
    assert environment["versions"]["numpy"] and environment["cores"] >= 1
    assert set(environment) >= {"argv", "python", "platform", "git_revision", "gpus"}


def test_free_ports_are_different() -> None:
    ports = free_ports("127.0.0.1", 20)
    assert len(set(ports)) == 20 and min(ports) > 1023
