"""What a task is: prompts with a known answer, and a rule that scores a completion against it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Split = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question with its reference answer.

    Example: Prompt("arithmetic/347+905", text="347+905=?", answer="1252", level=2)
    """

    prompt_id: str
    text: str  # the question alone; `templates.render` makes of it what the policy sees
    answer: str
    level: int  # difficulty, larger is harder
    # What else the rule or a reward function of the user's needs: plain values.
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished rollout as text.

    Example: Completion("<think></think><answer>1252</answer>", num_tokens=9, truncated=False)
    """

    text: str  # all that the policy wrote, tags included, without the stop token
    num_tokens: int  # sampled tokens, the stop token included
    truncated: bool  # cut at the token limit: however the text ends, the policy did not end it


class Task(Protocol):
    """A source of prompts and the rule for their answers.

    A task of your own is a class of this shape in one file, made with the `TaskConfig`, and named
    as `task.name=path/file.py:Class`. Optional attributes: `isolated = True` says that `score` may
    hang, crash or take long, so that it runs in a process that can be killed, where `warm_up()`
    is called before the first score; `levels` lists the difficulty levels.

    Prompts follow from the configuration alone: every process of a run, and every restart of
    it, knows the same ones by the same ids. The splits share neither ids nor questions.
    """

    name: str

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, in a fixed order."""

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id; works in a process that never listed the prompts.

        Raises:
            TaskError: no prompt of this task has the id.
        """

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """Accuracy in [0, 1]. Format, length and their weights are the concern of `rewards`."""


@runtime_checkable
class DemonstratingTask(Task, Protocol):
    """A task that also writes solutions: what a cold start (R1 report, section 2.3.1) learns."""

    styles: tuple[str, ...]
    levels: tuple[int, ...]

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random prompt that is not, under any seed, in the eval split."""

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A completion in one of the styles, right or wrong as the style has it."""
