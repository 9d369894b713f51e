"""Rule rewards of single rollouts (R1 report, arXiv 2501.12948, section 2.2.2): terms with weights.

No neural reward model. Terms that need the whole group are not here: they come when it closes.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from async_r1.config_task import RewardConfig
from async_r1.tasks.protocol import Completion, Prompt, Task
from async_r1.templates import is_well_formed


class RewardTerm(Protocol):
    """One reward of one completion."""

    def __call__(self, prompt: Prompt, completion: Completion) -> float:
        """In [0, 1], before its weight."""


class Rewards:
    """A weighted sum of terms.

    Example: accuracy 1 and format 1 under weights 1.0 and 0.1 score
    `{"accuracy": 1.0, "format": 1.0, "task": 1.0, "total": 1.1}`.
    """

    def __init__(
        self,
        task_reward: RewardTerm,
        terms: Mapping[str, RewardTerm],
        weights: Mapping[str, float],
    ) -> None:
        """`task_reward` is what curriculum and eval call success, whatever its weight."""
        assert terms.keys() == weights.keys() and not {"task", "total"} & terms.keys()
        self._task_reward = task_reward
        self._terms = terms
        self._weights = weights

    def score(self, prompt: Prompt, completion: Completion) -> dict[str, float]:
        """Each term by name, "task" (accuracy alone) and "total" (the weighted sum)."""
        rewards = {name: float(term(prompt, completion)) for name, term in self._terms.items()}
        total = sum(self._weights[name] * value for name, value in rewards.items())
        task = float(self._task_reward(prompt, completion))
        return {**rewards, "task": task, "total": total}


def make_rewards(cfg: RewardConfig, task: Task) -> Rewards:
    """The rewards of a configuration: terms of weight 0 are still scored, for the metrics."""
    accuracy = _unless_truncated(task.score)
    form = _unless_truncated(lambda _, completion: float(is_well_formed(completion.text)))
    weights = {"accuracy": cfg.accuracy, "format": cfg.format}
    return Rewards(accuracy, {"accuracy": accuracy, "format": form}, weights)


def _unless_truncated(term: Callable[[Prompt, Completion], float]) -> RewardTerm:
    """A cut completion earns nothing: that its text happens to look whole was not the policy's
    decision."""
    return lambda prompt, completion: 0.0 if completion.truncated else term(prompt, completion)
