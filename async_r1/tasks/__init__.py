"""The tasks by name."""

from collections.abc import Callable

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import nearest
from async_r1.tasks.arithmetic import Arithmetic
from async_r1.tasks.long_sort import LongSort
from async_r1.tasks.protocol import Completion, DemonstratingTask, Prompt, Split, Task

__all__ = ["TASKS", "Completion", "DemonstratingTask", "Prompt", "Split", "Task", "load_task"]

TASKS: dict[str, Callable[[TaskConfig], Task]] = {
    "arithmetic": Arithmetic,
    "long_sort": LongSort,
}


def load_task(cfg: TaskConfig) -> Task:
    """The task that the configuration names.

    Raises:
        TaskError: no task has the name, or the task refuses its options.
    """
    if cfg.name not in TASKS:
        match = nearest(cfg.name, TASKS)
        hint = f"did you mean {match}?" if match else f"known: {', '.join(TASKS)}"
        raise TaskError(f"unknown task {cfg.name!r}; {hint}")
    return TASKS[cfg.name](cfg)
