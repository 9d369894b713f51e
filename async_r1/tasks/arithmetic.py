"""Sums of integers, by level: small enough for a model of a million parameters to learn on a CPU.

    level    1    2    3    4    5    k >= 3
    terms    2    2    3    4    5    k
    digits   2    3    3    3    3    3

An id holds its question, so that `get` needs no table. Which split a question belongs to follows
from a hash of its terms, whatever their order and whatever the seed: nothing that trains, the
demonstrations of a cold start included, is ever held out.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from functools import cache

from async_r1.config import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import nearest
from async_r1.tasks import arithmetic_solutions as solutions
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.templates import extract_answer

MAX_LEVEL = 32
_EVAL_SHARE = 10  # one question in ten is held out


class Arithmetic:
    """The task `arithmetic`.

    Options:
        blunt_skill: probability that a column is added right in a `blunt` demonstration.
    """

    name = "arithmetic"
    styles = ("blunt", "careful", "checked")

    def __init__(self, cfg: TaskConfig):
        self._cfg = cfg
        self._levels: dict[Split, list[int]] = {
            "train": list(cfg.levels),
            "eval": list(cfg.eval_levels or cfg.levels),
        }
        for split, levels in self._levels.items():
            _check_levels(split, levels, cfg.num_train if split == "train" else cfg.num_eval)
        self._blunt_skill = _blunt_skill(cfg.options)
        self._prompts = cache(self._build)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, levels taking turns; no question twice."""
        return self._prompts(split)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also if another seed or size of the prompt set gave it out."""
        prefix, _, expression = prompt_id.partition("/")
        terms = [int(term) for term in expression.split("+") if term.isascii() and term.isdigit()]
        level = _level_of(terms)
        if prefix != self.name or level is None or "+".join(map(str, terms)) != expression:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        return _prompt(level, terms)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer is the reference, character by character, else 0."""
        return float(extract_answer(completion.text) == prompt.answer)

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level that is never held out."""
        return _prompt(level, _draw(level, "train", rng))

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in a style of `arithmetic_solutions`."""
        terms = [int(term) for term in prompt.text.removesuffix("=?").split("+")]
        if style == "blunt":
            return solutions.blunt(terms, rng, skill=self._blunt_skill)
        if style == "careful":
            return solutions.careful(terms)
        if style == "checked":
            return solutions.checked(terms)
        raise TaskError(f"style must be one of {', '.join(self.styles)}, got {style!r}")

    def _build(self, split: Split) -> tuple[Prompt, ...]:
        rng = random.Random(f"{self.name} {split} {self._cfg.seed}")
        levels = self._levels[split]
        wanted = self._cfg.num_train if split == "train" else self._cfg.num_eval
        found: dict[str, Prompt] = {}
        while len(found) < wanted:
            level = levels[len(found) % len(levels)]
            prompt = _prompt(level, _draw(level, split, rng))
            found.setdefault(prompt.prompt_id, prompt)
        return tuple(found.values())


def _shape(level: int) -> tuple[int, int]:
    return max(2, level), 2 if level == 1 else 3


def _level_of(terms: Sequence[int]) -> int | None:
    for level in (1, max(2, len(terms))):
        count, digits = _shape(level)
        if len(terms) == count <= MAX_LEVEL and all(len(str(term)) == digits for term in terms):
            return level
    return None


def _prompt(level: int, terms: Sequence[int]) -> Prompt:
    expression = "+".join(map(str, terms))
    return Prompt(f"{Arithmetic.name}/{expression}", f"{expression}=?", str(sum(terms)), level)


def _held_out(terms: Sequence[int]) -> bool:
    digest = hashlib.blake2b(repr(sorted(terms)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0


def _draw(level: int, split: Split, rng: random.Random) -> list[int]:
    count, digits = _shape(level)
    while True:
        terms = [rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(count)]
        if _held_out(terms) == (split == "eval"):
            return terms


def _check_levels(split: Split, levels: list[int], wanted: int) -> None:
    if not levels or not all(1 <= level <= MAX_LEVEL for level in levels):
        raise TaskError(f"levels of {split} must be in 1..{MAX_LEVEL}, got {levels}")
    for level in set(levels):
        count, digits = _shape(level)
        share = 1 / _EVAL_SHARE if split == "eval" else 1 - 1 / _EVAL_SHARE
        # Three quarters of what exists: finding a new one stays cheap, and the hash is uneven.
        existing = 0.75 * share * math.pow(9 * 10 ** (digits - 1), count)
        room = int(existing * len(levels) / levels.count(level))
        if wanted > room:
            raise TaskError(
                f"level {level} has too few questions for {wanted} {split} prompts over "
                f"{len(levels)} levels; ask for at most {room} or leave the level out"
            )


def _blunt_skill(options: dict[str, object]) -> float:
    skill = 0.75
    for key, value in options.items():
        if key != "blunt_skill":
            hint = "; did you mean blunt_skill?" if nearest(key, ["blunt_skill"]) else ""
            raise TaskError(f"unknown option task.options.{key} of task arithmetic{hint}")
        skill = value
    if not isinstance(skill, int | float) or not 0 <= skill <= 1:
        raise TaskError(f"task.options.blunt_skill must be in [0, 1], got {skill!r}")
    return float(skill)
