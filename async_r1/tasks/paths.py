"""The files that a task is made of, found from any working directory."""

from dataclasses import replace
from pathlib import Path

from async_r1.config_task import TaskConfig
from async_r1.load_object import is_spec, resolve_spec

_PATHS = {"jsonl": ("path", "eval_path"), "hf": ("name", "eval_name")}


def resolve_paths(cfg: TaskConfig) -> TaskConfig:
    """The same task with absolute paths, for roles that start elsewhere.

    What is not there stays as it is: a dataset of the hub, or a mistake that `load_task` names.
    """
    options = dict(cfg.options)
    for key in _PATHS.get(cfg.name, ()):
        if key in options:
            options[key] = _absolute(options[key])
    name = resolve_spec(cfg.name) if is_spec(cfg.name) else cfg.name
    return replace(cfg, name=name, labels=_absolute(cfg.labels), options=options)


def _absolute(path: str) -> str:
    given = Path(path).expanduser() if isinstance(path, str) else None
    return str(given.resolve()) if path and given and given.exists() else path
