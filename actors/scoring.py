"""Text and rewards of finished rollouts."""

from typing import Any

from async_r1.rewards import make_rewards
from async_r1.tasks.protocol import Completion, Task
from async_r1.templates import PromptForm
from async_r1.types import FinishReason, Int32, Score


class Scorer:
    """Renders prompts and scores completions with the task's rule rewards."""

    def __init__(self, config: Any, task: Task, tokenizer: Any, stop_token_ids: list[int]) -> None:
        self._task = task
        self._tokenizer = tokenizer
        self._form = PromptForm(config.task, tokenizer)
        self._rewards = make_rewards(config.reward, task)
        self._stop = set(stop_token_ids)

    def prompt_token_ids(self, prompt_id: str, suffix: str = "") -> list[int]:
        """Tokens that the policy is given [P]; `suffix` follows the rendered prompt.

        Raises:
            TaskError: no prompt has the id.
        """
        return self._form.token_ids(self._task.get(prompt_id).text, suffix)

    def score(
        self,
        *,
        rollout_id: int,
        lease_epoch: int,
        prompt_id: str,
        token_ids: Int32,
        finish_reason: FinishReason,
        prefix: str = "",
    ) -> Score:
        """Rewards of a whole completion [T]; `prefix` was forced on it and counts as its own."""
        ids = token_ids.tolist()
        shown = ids[:-1] if ids and ids[-1] in self._stop else ids
        text = self._form.forced(prefix) + self._tokenizer.decode(shown, skip_special_tokens=False)
        completion = Completion(
            text=text, num_tokens=len(ids), truncated=finish_reason is FinishReason.LENGTH
        )
        rewards = self._rewards.score(self._task.get(prompt_id), completion)
        return Score(rollout_id=rollout_id, lease_epoch=lease_epoch, rewards=rewards, text=text)
