"""Sums of integers, by level: small enough for a model of a million parameters to learn on a CPU.

A question adds to a number of four digits, 1000 to 4999, further numbers:

    level                      1    2      3    4    5
    numbers added              1    2..4   2    3    4
    their digits               3    1..3   3    3    3
    digits added, in all       3    3..6   6    9    12

Level 2 has long sums of short numbers, and no sum of level 3. A model that has seen levels 1 to 3
has met every step of a sum of levels 4 and 5, but no such sum.

An id holds its question, so that `get` needs no table. Which split a question is in follows from a
hash of its numbers, whatever their order and whatever the seed: nothing that trains, the
demonstrations of a cold start included, is ever held out.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import nearest
from async_r1.tasks import arithmetic_solutions as solutions
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.templates import extract_answer

LEVELS = range(1, 6)
MAX_PROMPTS = 200_000  # per split; level 1, the smallest, holds out 360,000 questions
_MAX_TERMS = 5
_EVAL_SHARE = 10  # one question in so many is held out


class Arithmetic:
    """The task `arithmetic`.

    Options:
        layout: "plain", as in "2395 + 972 = ?", or "table" for the smallest models:
            every number in a cell as wide as a line of a worked solution, every question as long
            as the longest, so that the number that a line needs is always equally far back.
        blunt_skill: probability that a `blunt` demonstration adds a column right.
    """

    name = "arithmetic"
    styles = ("blunt", "careful", "checked")
    levels = tuple(LEVELS)

    def __init__(self, cfg: TaskConfig):
        self._seed = cfg.seed
        train = list(cfg.levels or self.levels)
        self._levels = {"train": train, "eval": list(cfg.eval_levels or train)}
        self._counts = {"train": cfg.num_train, "eval": cfg.num_eval}
        for levels in self._levels.values():
            if not set(levels) <= set(LEVELS):
                raise TaskError(f"levels of task arithmetic are 1 to {LEVELS[-1]}, got {levels}")
        if max(self._counts.values()) > MAX_PROMPTS:
            raise TaskError(f"task arithmetic has up to {MAX_PROMPTS} prompts, got {self._counts}")
        options = _options(cfg.options)
        self._table = options["layout"] == "table"
        self._blunt_skill = options["blunt_skill"]
        self._prompts = cache(self._build)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, levels taking turns; no question twice."""
        return self._prompts(split)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also one from another seed or size of the prompt set."""
        terms = _terms(prompt_id)
        level = _level(terms)
        if level is None or _prompt_id(terms) != prompt_id:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        return self._prompt(terms, level)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer is the reference, character by character, else 0."""
        return float(extract_answer(completion.text) == prompt.answer)

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level that is never held out."""
        return self._prompt(_draw(level, "train", rng), level)

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles of `arithmetic_solutions`."""
        terms = _terms(prompt.prompt_id)
        if style == "blunt":
            return solutions.blunt(terms, rng, skill=self._blunt_skill)
        if style == "careful":
            return solutions.careful(terms)
        if style == "checked":
            return solutions.checked(terms)
        raise TaskError(f"style must be one of {', '.join(self.styles)}, got {style!r}")

    def _build(self, split: Split) -> tuple[Prompt, ...]:
        rng = random.Random(f"{self.name} {split} {self._seed}")
        levels = self._levels[split]
        found: dict[str, Prompt] = {}
        while len(found) < self._counts[split]:
            level = levels[len(found) % len(levels)]
            prompt = self._prompt(_draw(level, split, rng), level)
            found.setdefault(prompt.prompt_id, prompt)
        return tuple(found.values())

    def _prompt(self, terms: Sequence[int], level: int) -> Prompt:
        if self._table:
            width = solutions.LINE_WIDTH
            signs = " +" * (len(terms) - 1) + " ="
            cells = [f"{t:>{solutions.COLUMNS}}" + signs[2 * i :][:2] for i, t in enumerate(terms)]
            text = "".join(f"{cell:<{width}}" for cell in cells).ljust(width * _MAX_TERMS)
        else:
            text = f"{' + '.join(map(str, terms))} = ?"
        return Prompt(_prompt_id(terms), text, str(sum(terms)), level)


def _prompt_id(terms: Sequence[int]) -> str:
    return f"{Arithmetic.name}/{'+'.join(map(str, terms))}"


def _terms(prompt_id: str) -> list[int]:
    terms = prompt_id.removeprefix(f"{Arithmetic.name}/").split("+")
    return [int(term) for term in terms if re.fullmatch("[1-9][0-9]{0,3}", term)]


def _level(terms: Sequence[int]) -> int | None:
    """The level that a sum belongs to, if any."""
    if not 2 <= len(terms) <= _MAX_TERMS or not 1000 <= terms[0] < 5000:
        return None
    digits = [len(str(term)) for term in terms[1:]]
    if set(digits) == {3}:
        return 1 if len(digits) == 1 else len(digits) + 1
    return 2 if len(digits) > 1 and max(digits) <= 3 and sum(digits) <= 6 else None


def _draw(level: int, split: Split, rng: random.Random) -> list[int]:
    while True:
        if level == 2:
            digits = [rng.randint(1, 3) for _ in range(rng.randint(2, _MAX_TERMS - 1))]
        else:
            digits = [3] * (1 if level == 1 else level - 1)
        terms = [rng.randrange(1000, 5000)]
        terms += [rng.randrange(10 ** (count - 1), 10**count) for count in digits]
        if _level(terms) == level and _held_out(terms) == (split == "eval"):
            return terms


def _held_out(terms: Sequence[int]) -> bool:
    digest = hashlib.blake2b(repr(sorted(terms)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0


def _options(given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"layout": "plain", "blunt_skill": 0.8}
    for key, value in given.items():
        if key not in options:
            match = nearest(key, options)
            hint = f"; did you mean {match}?" if match else f"; known: {', '.join(options)}"
            raise TaskError(f"unknown option task.options.{key} of task arithmetic{hint}")
        options[key] = value
    if options["layout"] not in ("plain", "table"):
        raise TaskError(f"task.options.layout must be plain or table, got {options['layout']!r}")
    skill = options["blunt_skill"]
    if not isinstance(skill, int | float) or not 0 <= skill <= 1:
        raise TaskError(f"task.options.blunt_skill must be in [0, 1], got {skill!r}")
    return options
