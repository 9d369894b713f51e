"""The weighted sum of reward terms, and what becomes of a term that fails."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from async_r1.tasks.protocol import Completion, Prompt

RESULTS = frozenset({"task", "total"})
RIGHT_ABOVE = 0.5  # task reward; functions of the user's may score -1 and 1, or give fractions
MAX_ERROR_CHARS = 500  # an exception may quote the whole completion

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def is_right(task_reward: float) -> bool:
    """Whether an answer counts as right: for accuracy, success rates, pass@k, length reward."""
    return task_reward > RIGHT_ABOVE


class RewardTerm(Protocol):
    """One reward of one completion."""

    def __call__(self, prompt: Prompt, completion: Completion, /) -> float:
        """Before its weight; in [0, 1] where it rewards, [-1, 0] where it punishes."""


class TaskReward(Protocol):
    """What curriculum and eval call success, with further numbers to report."""

    def __call__(
        self, prompt: Prompt, completion: Completion, /
    ) -> tuple[float, Mapping[str, Any]]:
        """The reward, and numbers by name that are recorded but have no weight."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rewards of a completion, or the one line that says why it has none.

    Example: `Outcome({}, "ValueError: no digits (/home/me/reward.py:12)")`.
    """

    rewards: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Rewards:
    """A weighted sum of terms, of which "accuracy" is the task reward.

    Example: accuracy 1 and format 1 under weights 1.0 and 0.1 score
    `{"accuracy": 1.0, "format": 1.0, "task": 1.0, "total": 1.1}`.
    """

    def __init__(
        self,
        task_reward: TaskReward,
        terms: Mapping[str, RewardTerm],
        weights: Mapping[str, float],
    ) -> None:
        """`weights` has one for each term and one for "accuracy"."""
        assert weights.keys() == {"accuracy", *terms} and not RESULTS & weights.keys()
        self._task_reward = task_reward
        self._terms = terms
        self._weights = weights

    def score(self, prompt: Prompt, completion: Completion) -> dict[str, float]:
        """Each term by name, "task" (accuracy alone) and "total" (the weighted sum).

        Raises:
            TypeError, ValueError: a term is no finite number; also whatever a term raises.
        """
        value, extras = self._task_reward(prompt, completion)
        rewards = {"accuracy": finite(value, "accuracy")}
        for name, term in self._terms.items():
            rewards[name] = finite(term(prompt, completion), name)
        if taken := (rewards.keys() | RESULTS | {"length"}) & extras.keys():
            raise ValueError(f"{min(taken)!r} is a term of async_r1: give yours another name")
        total = sum(self._weights[name] * value for name, value in rewards.items())
        rewards |= {name: finite(extra, name) for name, extra in extras.items()}
        return {**rewards, "task": rewards["accuracy"], "total": finite(total, "total")}

    def outcome(self, prompt: Prompt, completion: Completion) -> Outcome:
        """The same as a value: no completion may stop a run, whatever its reward does."""
        try:
            return Outcome(self.score(prompt, completion))
        except (Exception, SystemExit) as error:  # a function of the user's may even call exit
            return Outcome(error=describe(error))


def finite(value: Any, name: str) -> float:
    """A reward as a float.

    Raises:
        TypeError: it is neither a number nor a bool.
        ValueError: it is not finite as a float32.
    """
    number = value.item() if isinstance(value, np.generic) else value
    if not isinstance(number, (bool, int, float)):
        raise TypeError(f"{name} must be a number, got {number!r}")
    if not abs(number) <= _MAX_FLOAT32:
        raise ValueError(f"{name} must be finite, got {number!r}")
    return float(number)


def describe(error: BaseException) -> str:
    """An exception in one line: its type, its text, and where it was raised."""
    text = " ".join(str(error).split())[:MAX_ERROR_CHARS]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def unless_truncated(term: Callable[[Prompt, Completion], float]) -> RewardTerm:
    """A cut completion earns nothing: that its text happens to look whole was not the policy's
    decision."""
    return lambda prompt, completion: 0.0 if completion.truncated else term(prompt, completion)
