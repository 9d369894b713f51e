"""What a user may mean by a checkpoint: a model, or a run and the newest that it has written."""

from dataclasses import dataclass, replace
from pathlib import Path

from async_r1.config import Config
from async_r1.config_dir import PREFIX, resolve_path
from async_r1.config_task import CurateConfig, EvaluateConfig
from async_r1.errors import ConfigError
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, read_json
from async_r1.schema import build


@dataclass(frozen=True)
class Checkpoint:
    """A model to load, and the configuration of the run that wrote it."""

    path: str
    label: str  # for the names of what is made of it
    config: Config | None = None


def find_checkpoint(given: str) -> Checkpoint:
    """A Hugging Face name or directory, `configs:...`, a run directory, or a part of one.

    Raises:
        ConfigError: it is none of these, or a run without a checkpoint.
    """
    path = Path(given).expanduser()
    if given.startswith(PREFIX) or not path.is_dir():
        return Checkpoint(resolve_path(given), Path(given.removeprefix(PREFIX)).name)
    root = next((up for up in (path.resolve(), *path.resolve().parents) if _is_run(up)), None)
    if root is None:
        return Checkpoint(_model(path), path.resolve().name)
    run_dir = RunDir(root)
    directory = _newest(run_dir) if path.resolve() == root else path.resolve()
    if (directory / "hf").is_dir():
        directory /= "hf"
    version = directory.parent.name if directory.name == "hf" else directory.name
    return Checkpoint(_model(directory), f"{root.name}-{version}", _config(run_dir))


def _is_run(directory: Path) -> bool:
    return RunDir(directory).resolved.is_file()


def _newest(run_dir: RunDir) -> Path:
    """Of the highest version; one that is being written has no COMPLETE."""
    complete = sorted(run_dir.checkpoints.glob("version_*/COMPLETE"))
    if not complete:
        raise ConfigError(
            f"{run_dir.root} has no checkpoint yet; its learner writes them every "
            f"learner.checkpoint_every versions, and at the end"
        )
    return complete[-1].parent


def _model(directory: Path) -> str:
    if not (directory / "config.json").is_file():
        raise ConfigError(
            f"{directory} is no checkpoint: neither a model (with a config.json) nor a run "
            f"directory (with config/resolved.json)"
        )
    return str(directory.resolve())


def _config(run_dir: RunDir) -> Config:
    """As the run had it, without where it ran and what only it could be named."""
    config = build(Resolved, read_json(run_dir.resolved)).config
    run = replace(config.run, name="", buffer_address="", weights_address="", plan_for="")
    return replace(config, run=run, dry_run=False, evaluate=EvaluateConfig(), curate=CurateConfig())
