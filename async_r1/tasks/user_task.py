"""A task of the user's own: one file, named as `task.name=path/file.py:Class`."""

import inspect
import traceback
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import AsyncR1Error, TaskError
from async_r1.load_object import load_object, resolve_spec
from async_r1.tasks.options import one_line
from async_r1.tasks.protocol import Task

_METHODS = {"prompts": 1, "get": 1, "score": 2}  # arguments of each


def load_user_task(cfg: TaskConfig) -> Task:
    """The task of a file, made with the configuration and checked for its shape.

    Raises:
        ConfigError: there is no such file or name, or the file cannot be run.
        TaskError: the class cannot be made, or lacks what `Task` asks for.
    """
    spec = cfg.name
    make = load_object(spec, option="task.name")
    if not callable(make):
        raise TaskError(f"task.name: {spec} must be a class, got {type(make).__name__}")
    try:
        task = make(cfg)
    except AsyncR1Error as error:
        raise TaskError(f"task {spec}: {error}") from error
    except Exception as error:
        raise TaskError(f"task {spec}{_line(error, spec)} raises {one_line(error)}") from error
    _check_shape(task, spec)
    checked: Task = task
    return checked


def _check_shape(task: Any, spec: str) -> None:
    if not isinstance(getattr(task, "name", None), str) or not task.name:
        raise TaskError(f"task {spec} must have a name, a text of its own such as 'mine'")
    for method, count in _METHODS.items():
        function = getattr(task, method, None)
        if not callable(function):
            raise TaskError(f"task {spec} has no method {method}; a task has {', '.join(_METHODS)}")
        try:
            inspect.signature(function).bind(*range(count))
        except TypeError:
            raise TaskError(
                f"task {spec}: {method} must take {count} argument{'s' if count > 1 else ''} "
                f"beside self, but is {method}{inspect.signature(function)}"
            ) from None


def _line(error: BaseException, spec: str) -> str:
    path = resolve_spec(spec).rpartition(":")[0]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f", line {lines[-1]}," if lines else ""
