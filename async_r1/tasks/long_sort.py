"""Sorting a list of digits by hand: careful solutions of hundreds to thousands of tokens.

A question is a list of `NUM_DIGITS` digits. A careful solution is bubble sort written out
(`long_sort_solutions`), 85 tokens a pass, and how many passes the list takes cannot be told at a
glance: it is how far the digit that has the farthest to go to the left has to go. The level is by
that:

    level                1       2       3       4         5
    passes               2..3    4..6    7..12   13..22    23..26
    tokens, careful      256     426     681     1,191     2,041
      up to              341     596     1,106   1,956     2,296

A distribution over the levels with a long tail is `task.levels` with repetitions: levels take
turns, so [1, 1, 1, 5] asks a long one in four.

As in `arithmetic`, an id holds its question, and a hash of it decides the split, whatever the seed.
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
from async_r1.tasks import long_sort_solutions as solutions
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.templates import extract_answer

NUM_DIGITS = 28
NUM_PASSES = {1: (2, 3), 2: (4, 6), 3: (7, 12), 4: (13, 22), 5: (23, 26)}
MAX_PROMPTS = 100_000  # per split
_EVAL_SHARE = 10  # one question in so many is held out


class LongSort:
    """The task `long_sort`.

    Options:
        blunt_skill: probability that a `blunt` demonstration has two neighbours in order.
    """

    name = "long_sort"
    styles = ("blunt", "careful")
    levels = tuple(NUM_PASSES)

    def __init__(self, cfg: TaskConfig):
        self._seed = cfg.seed
        train = list(cfg.levels or self.levels)
        self._levels = {"train": train, "eval": list(cfg.eval_levels or train)}
        self._counts = {"train": cfg.num_train or MAX_PROMPTS, "eval": cfg.num_eval}
        for levels in self._levels.values():
            if not set(levels) <= set(NUM_PASSES):
                raise TaskError(
                    f"levels of task {self.name} are 1 to {max(NUM_PASSES)}, got {levels}"
                )
        if max(self._counts.values()) > MAX_PROMPTS:
            raise TaskError(f"task {self.name} has up to {MAX_PROMPTS} prompts, got {self._counts}")
        self._blunt_skill = _blunt_skill(cfg.options)
        self._prompts = cache(self._build)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        """All prompts of a split, levels taking turns; no question twice."""
        return self._prompts(split)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also one from another seed or size of the prompt set."""
        digits = _digits(prompt_id)
        level = _level(digits) if len(digits) == NUM_DIGITS else None
        if level is None or _prompt_id(digits) != prompt_id:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        return _prompt(digits, level)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer is the sorted list, character by character, else 0."""
        return float(extract_answer(completion.text) == prompt.answer)

    def draw(self, level: int, rng: random.Random) -> Prompt:
        """A random question of the level that is never held out."""
        return _prompt(_draw(level, "train", rng), level)

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles of `long_sort_solutions`."""
        digits = _digits(prompt.prompt_id)
        if style == "blunt":
            return solutions.blunt(digits, rng, skill=self._blunt_skill)
        if style == "careful":
            return solutions.careful(digits)
        raise TaskError(f"style must be one of {', '.join(self.styles)}, got {style!r}")

    def _build(self, split: Split) -> tuple[Prompt, ...]:
        rng = random.Random(f"{self.name} {split} {self._seed}")
        levels = self._levels[split]
        found: dict[str, Prompt] = {}
        while len(found) < self._counts[split]:
            level = levels[len(found) % len(levels)]
            prompt = _prompt(_draw(level, split, rng), level)
            found.setdefault(prompt.prompt_id, prompt)
        return tuple(found.values())


def _prompt(digits: Sequence[int], level: int) -> Prompt:
    answer = solutions.question(sorted(digits))
    return Prompt(_prompt_id(digits), solutions.question(digits), answer, level)


def _prompt_id(digits: Sequence[int]) -> str:
    return f"{LongSort.name}/{''.join(map(str, digits))}"


def _digits(prompt_id: str) -> list[int]:
    digits = prompt_id.removeprefix(f"{LongSort.name}/")
    return [int(digit) for digit in digits] if re.fullmatch("[0-9]+", digits) else []


def num_passes(digits: Sequence[int]) -> int:
    """Passes of bubble sort, with the one that finds nothing to exchange.

    A pass moves every digit with a larger one before it by one place to the left.
    """
    return 1 + max(sum(d > digit for d in digits[:i]) for i, digit in enumerate(digits))


def _level(digits: Sequence[int]) -> int | None:
    """The level that a list belongs to, if any."""
    count = num_passes(digits)
    for level, (fewest, most) in NUM_PASSES.items():
        if fewest <= count <= most:
            return level
    return None


def _draw(level: int, split: Split, rng: random.Random) -> list[int]:
    while True:
        digits = _list_of(rng.randint(*NUM_PASSES[level]) - 1, rng)
        if _level(digits) == level and _held_out(digits) == (split == "eval"):
            return digits


def _list_of(farthest: int, rng: random.Random) -> list[int]:
    """A list none of whose digits has to go more than `farthest` places to the left."""
    ordered = sorted(rng.randrange(10) for _ in range(NUM_DIGITS))
    left, digits = list(range(NUM_DIGITS)), []
    for place in range(NUM_DIGITS):
        due = left[0] <= place - farthest
        digits.append(ordered[left.pop(0 if due else rng.randrange(len(left)))])
    return digits


def _held_out(digits: Sequence[int]) -> bool:
    digest = hashlib.blake2b(bytes(digits), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _EVAL_SHARE == 0


def _blunt_skill(given: dict[str, Any]) -> float:
    for key in given:
        if key != "blunt_skill":
            match = nearest(key, ["blunt_skill"])
            hint = f"; did you mean {match}?" if match else "; known: blunt_skill"
            raise TaskError(f"unknown option task.options.{key} of task {LongSort.name}{hint}")
    skill = given.get("blunt_skill", 0.8)
    if not isinstance(skill, int | float) or not 0 <= skill <= 1:
        raise TaskError(f"task.options.blunt_skill must be in [0, 1], got {skill!r}")
    return float(skill)
