"""The demonstrations of a cold start (R1 report, section 2.3.1), as a stream of text.

The phases of `sft.phases` mix styles. A base model for RL needs a style that rarely wins and is
common beside one that mostly wins and is rare: a phase of the good style alone, until it is right,
then a phase of the mix.
"""

import random
from collections.abc import Iterator

from async_r1.config import SftConfig
from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError, TaskError
from async_r1.tasks import DemonstratingTask, load_task


def examples(
    task_cfg: TaskConfig, sft: SftConfig, seed: int, phase: int
) -> Iterator[tuple[str, str]]:
    """Endless (question, completion) pairs of a phase; the same for the same arguments.

    The learner renders the question, which is context, not target, and appends the stop token to
    the completion by id. No question is ever in the task's eval split.

    Raises:
        TaskError: the task has no demonstrations, or not in a style of the phase.
        ConfigError: the shares of the phase are not positive in sum, or one is negative.
    """
    task = load_task(task_cfg)
    if not isinstance(task, DemonstratingTask):
        raise TaskError(f"task {task_cfg.name} has no demonstrations to learn from")
    options = sft.phases[phase]
    levels = options.levels or task_cfg.levels or list(task.levels)
    styles, shares = list(options.styles), list(options.styles.values())
    if not styles or min(shares) < 0 or sum(shares) <= 0:
        raise ConfigError(f"sft.phases[{phase}].styles must be shares >= 0, got {options.styles}")
    for style in styles:
        if style not in task.styles:
            raise TaskError(f"style must be one of {', '.join(task.styles)}, got {style!r}")
    rng = random.Random(f"coldstart {seed} {phase}")
    return _stream(task, levels, styles, shares, rng)


def _stream(
    task: DemonstratingTask,
    levels: list[int],
    styles: list[str],
    shares: list[float],
    rng: random.Random,
) -> Iterator[tuple[str, str]]:
    while True:
        prompt = task.draw(rng.choice(levels), rng)
        (style,) = rng.choices(styles, shares)
        yield prompt.text, task.demonstrate(prompt, style, rng)
