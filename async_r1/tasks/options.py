"""The options of a task, read from `task.options` into a frozen dataclass with `opt` fields."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError, TaskError
from async_r1.schema import build, nearest

T = TypeVar("T")


def read_options(cls: type[T], cfg: TaskConfig) -> T:
    """The options of a task; an absent one takes its default.

    Raises:
        TaskError: one line naming the option, its rule, what was given and the nearest spelling.
    """
    known = [field.name for field in dataclasses.fields(cast(Any, cls))]
    for key in cfg.options:
        if key not in known:
            hint = did_you_mean(key, known)
            raise TaskError(f"task {cfg.name}: unknown option task.options.{key}{hint}")
    try:
        return build(cls, cfg.options, "task.options")
    except ConfigError as error:
        raise TaskError(f"task {cfg.name}: {error}") from error


def did_you_mean(given: str, known: Iterable[str], *, shown: int = 8) -> str:
    """The end of an error message: the nearest spelling, or else what there is to choose from."""
    listed = list(known)
    if match := nearest(given, listed):
        return f"; did you mean {match}?"
    rest = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return f"; known: {', '.join(listed[:shown])}{rest}" if listed else ""


def one_line(error: BaseException, *, limit: int = 300) -> str:
    """An exception in one line: its kind and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:limit]}" if text else type(error).__name__


def existing_file(path: str, option: str) -> Path:
    """The file of an option.

    Raises:
        TaskError: the option is empty, or there is no such file.
    """
    file = Path(path).expanduser()
    if not path:
        raise TaskError(f"{option} must name a file, got ''")
    if not file.is_file():
        folder = file.parent
        siblings = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        match = nearest(file.name, siblings)
        hint = f"; did you mean {match}?" if match else ""
        raise TaskError(f"{option}: no such file {path!r}{hint}")
    return file.resolve()
