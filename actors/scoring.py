"""Text and rewards of finished rollouts."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from actors.score_pool import ScorePool
from async_r1.channels import wait_any
from async_r1.errors import DeadlineError
from async_r1.rewards import Outcome, Rewards, is_isolated, make_rewards
from async_r1.tasks.protocol import Completion, Task
from async_r1.templates import PromptForm
from async_r1.types import FinishReason, Int32

_CACHED_PROMPTS = 4096


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion with its rewards, or with the reason why it has none.

    Example: `Scored(7, "<think>…", {"accuracy": 1.0, "format": 1.0, "task": 1.0, "total": 1.1})`.
    """

    key: Any
    text: str
    rewards: dict[str, float]  # empty if there is an error
    error: str = ""  # one line: an exception, a process that died, or "took more than 10 s"


@dataclass(slots=True)
class _Pending:
    text: str
    outcome: Outcome | None = None


class Scorer:
    """Renders prompts and scores completions, also outside of an actor.

    A task that says `isolated` and a function of the user's are scored in processes that are
    killed after `reward.timeout_s`; everything else at once, here. Nothing but `wait` ever waits:

        scorer.submit(key, prompt_id=..., token_ids=..., finish_reason=...)
        for scored in scorer.finished(): ...      # or wait(timeout_s), for all of them
        scorer.close()
    """

    def __init__(self, config: Any, task: Task, tokenizer: Any, stop_token_ids: list[int]) -> None:
        self._task = task
        self._tokenizer = tokenizer
        self._form = PromptForm(config.task, tokenizer)
        self._stop = set(stop_token_ids)
        self._in_order = config.mode == "sync"
        # A prompt is asked for by every lease of every member of its group.
        self._token_ids = lru_cache(_CACHED_PROMPTS)(self._encode)
        self._pending: OrderedDict[Hashable, _Pending] = OrderedDict()
        self._pool: ScorePool | None = None
        self._rewards: Rewards | None = None
        if is_isolated(config.reward, task):
            self._pool = ScorePool(config.reward, config.task)
        else:
            self._rewards = make_rewards(config.reward, config.task, task)

    def prompt_token_ids(self, prompt_id: str, suffix: str = "") -> Int32:
        """Tokens that the policy is given [P], read-only; `suffix` follows the rendered prompt.

        Raises:
            TaskError: no prompt has the id.
        """
        return self._token_ids(prompt_id, suffix)

    def _encode(self, prompt_id: str, suffix: str) -> Int32:
        text = self._task.get(prompt_id).text
        token_ids = np.asarray(self._form.token_ids(text, suffix), dtype=np.int32)
        token_ids.flags.writeable = False
        return token_ids

    def submit(
        self,
        key: Hashable,
        *,
        prompt_id: str,
        token_ids: Int32,
        finish_reason: FinishReason,
        prefix: str = "",
    ) -> None:
        """Have a whole completion [T] scored; `prefix` was forced on it and counts as its own.

        Raises:
            TaskError: no prompt has the id.
        """
        assert key not in self._pending, key
        ids = token_ids.tolist()
        shown = ids[:-1] if ids and ids[-1] in self._stop else ids
        text = self._form.forced(prefix) + self._tokenizer.decode(shown, skip_special_tokens=False)
        completion = Completion(
            text=text, num_tokens=len(ids), truncated=finish_reason is FinishReason.LENGTH
        )
        prompt = self._task.get(prompt_id)
        self._pending[key] = _Pending(text)
        if self._pool is not None:
            self._pool.submit(key, prompt, completion)
        else:
            assert self._rewards is not None
            self._pending[key].outcome = self._rewards.outcome(prompt, completion)

    def finished(self) -> list[Scored]:
        """What is scored and was not returned yet; never waits.

        In sync mode in the order of `submit`, so that nothing depends on how long a score took.
        """
        if self._pool is not None:
            for key, result in self._pool.poll():
                self._pending[key].outcome = result
        scored = []
        for key, pending in list(self._pending.items()):
            outcome = pending.outcome
            if outcome is not None:
                del self._pending[key]
                scored.append(Scored(key, pending.text, outcome.rewards, outcome.error))
            elif self._in_order:
                break
        return scored

    def wait(self, timeout_s: float) -> list[Scored]:
        """All that were submitted and not returned yet, in the order of their end.

        Raises:
            DeadlineError: some were not scored in time.
        """
        deadline = time.monotonic() + timeout_s
        scored = self.finished()
        while self._pending:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise DeadlineError(
                    f"{self.num_pending} completions were not scored in {timeout_s:g} s; see "
                    f"reward.workers and reward.timeout_s"
                )
            wait_any([], min(left_s, self.due_s()), self.fds)
            scored += self.finished()
        return scored

    @property
    def num_pending(self) -> int:
        """Submitted and not returned by `finished`."""
        return len(self._pending)

    @property
    def num_replaced(self) -> int:
        """Scoring processes that were killed or died."""
        return self._pool.num_replaced if self._pool is not None else 0

    @property
    def fds(self) -> list[int]:
        """File descriptors that are readable when `finished` has something to do."""
        return self._pool.fds if self._pool is not None else []

    def due_s(self) -> float:
        """Seconds after which `finished` has something to do even if no descriptor is readable."""
        return self._pool.due_s(time.monotonic()) if self._pool is not None else float("inf")

    def close(self) -> None:
        """End the scoring processes; what is not scored is forgotten."""
        if self._pool is not None:
            self._pool.close()
        self._pending.clear()
