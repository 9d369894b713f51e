"""The tasks by name."""

from collections.abc import Callable

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.load_object import is_spec
from async_r1.tasks.arithmetic import Arithmetic, ArithmeticOptions
from async_r1.tasks.checks import check_task
from async_r1.tasks.countdown import Countdown, CountdownOptions
from async_r1.tasks.drawn import DemonstrationOptions
from async_r1.tasks.hf import Hf, HfOptions
from async_r1.tasks.jsonl import Jsonl, JsonlOptions
from async_r1.tasks.labels import LabelledTask, own_levels
from async_r1.tasks.lazy import some_prompts
from async_r1.tasks.long_sort import LongSort
from async_r1.tasks.options import did_you_mean
from async_r1.tasks.paths import resolve_paths
from async_r1.tasks.protocol import Completion, DemonstratingTask, Prompt, Split, Task
from async_r1.tasks.reasoning_gym import ReasoningGym
from async_r1.tasks.reasoning_gym_datasets import Options as ReasoningGymOptions
from async_r1.tasks.sorting import Sorting
from async_r1.tasks.user_task import load_user_task

__all__ = [
    "OPTIONS",
    "TASKS",
    "Completion",
    "DemonstratingTask",
    "Prompt",
    "Split",
    "Task",
    "check_task",
    "load_task",
    "resolve_paths",
    "some_prompts",
]

# `task.options` of each task, for the docs.
OPTIONS: dict[str, type] = {
    "arithmetic": ArithmeticOptions,
    "countdown": CountdownOptions,
    "hf": HfOptions,
    "jsonl": JsonlOptions,
    "long_sort": DemonstrationOptions,
    "reasoning_gym": ReasoningGymOptions,
    "sorting": DemonstrationOptions,
}

TASKS: dict[str, Callable[[TaskConfig], Task]] = {
    "arithmetic": Arithmetic,
    "countdown": Countdown,
    "hf": Hf,
    "jsonl": Jsonl,
    "long_sort": LongSort,
    "reasoning_gym": ReasoningGym,
    "sorting": Sorting,
}


def load_task(cfg: TaskConfig) -> Task:
    """The task that the configuration names; lists no prompts yet (see `check_task`).

    Raises:
        TaskError: no task has the name, or the task refuses its options.
        ConfigError: the file of a task of the user's own cannot be used.
    """
    if cfg.labels:
        return LabelledTask(cfg, load_task(own_levels(cfg)))
    if is_spec(cfg.name):
        return load_user_task(cfg)
    if cfg.name not in TASKS:
        hint = did_you_mean(cfg.name, TASKS)
        raise TaskError(f"unknown task {cfg.name!r}, nor is it path/file.py:Class{hint}")
    return TASKS[cfg.name](cfg)
