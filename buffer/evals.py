"""Evaluation on the held-out split, by the actors, while training goes on."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from async_r1.rewards.weighted import is_right
from async_r1.tasks.protocol import Prompt
from buffer.rollout import Rollout, RolloutState


@dataclass(slots=True)
class Evaluation:
    """One pass over the held-out prompts."""

    rollouts: list[Rollout]
    started_at: float

    @property
    def complete(self) -> bool:
        return self.num_missing == 0

    @property
    def num_missing(self) -> int:
        """Rollouts that are still to be scored."""
        done = (RolloutState.SCORED, RolloutState.FAILED)
        return sum(rollout.state not in done for rollout in self.rollouts)

    def row(self, *, now: float, step: int) -> dict[str, Any]:
        """The metrics row; versions are those that sampled, lowest and highest. A rollout whose
        reward failed counts as wrong."""
        task_rewards = [rollout.rewards.get("task", 0.0) for rollout in self.rollouts]
        correct = np.asarray([is_right(reward) for reward in task_rewards])
        levels = np.asarray([rollout.prompt.level for rollout in self.rollouts])
        lengths = np.asarray([rollout.num_tokens for rollout in self.rollouts])
        versions = np.concatenate([rollout.versions for rollout in self.rollouts])
        accuracy = float(correct.mean())
        row = {
            "step": step,
            "policy_version": int(versions.min()),
            "policy_version_max": int(versions.max()),
            "eval/accuracy": accuracy,
            "eval/accuracy/ci95": 1.96 * math.sqrt(accuracy * (1 - accuracy) / len(correct)),
            "eval/task_reward/mean": float(np.mean(task_rewards)),
            "eval/completion_length/mean": float(lengths.mean()),
            "eval/clip_frac": float(np.mean([rollout.truncated for rollout in self.rollouts])),
            "eval/num_prompts": len(self.rollouts),
            "eval/reward_errors": sum(bool(rollout.error) for rollout in self.rollouts),
            "time/eval_s": now - self.started_at,
        }
        form = [r.rewards["format"] for r in self.rollouts if "format" in r.rewards]
        if form:
            row["eval/format"] = float(np.mean(form))
        for level in np.unique(levels):
            row[f"eval/accuracy/level_{level}"] = float(correct[levels == level].mean())
        return row


@dataclass(slots=True)
class EvalSchedule:
    """Which versions are measured: every `every`th, and the last."""

    every: int
    prompts: list[Prompt]
    due: int | None = None  # version whose measurement has not started
    last: int | None = None  # version whose measurement started last
    running: Evaluation | None = field(default=None)

    def published(self, version: int, *, last: bool = False) -> None:
        """A version was published; a measurement still due gives way to a newer one."""
        if self.every and (last or version % self.every == 0) and version != self.last:
            self.due = version

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing is due."""
        return self.running is None and self.due is None
