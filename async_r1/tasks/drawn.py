"""What the built-in tasks for nano models share: questions drawn at random, by level.

An id holds its question, so that `get` needs no table. Which split a question is in follows from a
hash of the question, whatever the seed: nothing that trains, the demonstrations of a cold start
included, is ever held out.
"""

import hashlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import opt
from async_r1.tasks.protocol import Completion, Prompt, Split

log = logging.getLogger(__name__)

MAX_PROMPTS = 200_000  # per split, which is also what task.num_train=0 asks for
_EVAL_SHARE = 10  # one question in so many is held out
_MAX_MISSES = 2000  # draws in a row that bring nothing new, before a level counts as exhausted


@dataclass(frozen=True, kw_only=True)
class DemonstrationOptions:
    """Options that every drawn task has."""

    blunt_skill: float = opt(0.8, ge=0, le=1, doc="probability that a blunt step is right")


class DrawnTask(ABC):
    """A task whose questions are drawn at random."""

    name: str
    styles: tuple[str, ...] = ("blunt", "careful", "checked")
    levels: tuple[int, ...]

    def __init__(self, cfg: TaskConfig):
        self._seed = cfg.seed
        train = list(cfg.levels or self.levels)
        self._levels = {"train": train, "eval": list(cfg.eval_levels or train)}
        self._counts = {"train": cfg.num_train or MAX_PROMPTS, "eval": cfg.num_eval}
        for levels in self._levels.values():
            if not set(levels) <= set(self.levels):
                raise TaskError(
                    f"levels of task {self.name} are {self.levels[0]} to {self.levels[-1]}, "
                    f"got {levels}"
                )
        if max(self._counts.values()) > MAX_PROMPTS:
            raise TaskError(
                f"task {self.name} has up to {MAX_PROMPTS} prompts, got task.num_train="
                f"{self._counts['train']} and task.num_eval={self._counts['eval']}"
            )
        self._found: dict[Split, tuple[Prompt, ...]] = {}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, levels taking turns; no question twice."""
        if split not in self._found:
            self._found[split] = tuple(self._build(split))
        return self._found[split]

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level that is never held out."""
        while True:
            prompt = self._draw(level, rng)
            if not _held_out(self._question(prompt)):
                return prompt

    def held_out(self, prompt_id: str) -> bool:
        """Whether the question never trains."""
        return _held_out(self._question(self.get(prompt_id)))

    def check_style(self, style: str) -> None:
        """Refuse a style that there is none of.

        Raises:
            TaskError: it is not in `styles`.
        """
        if style not in self.styles:
            raise TaskError(f"style must be one of {', '.join(self.styles)}, got {style!r}")

    @abstractmethod
    def get(self, prompt_id: str) -> Prompt: ...

    @abstractmethod
    def score(self, prompt: Prompt, completion: Completion) -> float: ...

    @abstractmethod
    def _draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level, of either split."""

    @abstractmethod
    def _question(self, prompt: Prompt) -> str:
        """Equal for questions that are the same but for the order of their numbers."""

    def _build(self, split: Split) -> list[Prompt]:
        rng = random.Random(f"{self.name} {split} {self._seed}")
        misses = dict.fromkeys(self._levels[split], 0)
        found: dict[str, Prompt] = {}
        while len(found) < self._counts[split] and min(misses.values()) < _MAX_MISSES:
            for level in self._levels[split]:
                while misses[level] < _MAX_MISSES and len(found) < self._counts[split]:
                    prompt = self._draw(level, rng)
                    question = self._question(prompt)
                    if _held_out(question) == (split == "eval") and question not in found:
                        found[question] = prompt
                        misses[level] = 0
                        break
                    misses[level] += 1
        if len(found) < self._counts[split]:
            log.warning("task %s has %d %s prompts of its levels", self.name, len(found), split)
        return list(found.values())


def _held_out(question: str) -> bool:
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0
