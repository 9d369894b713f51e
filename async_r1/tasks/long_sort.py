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

import random
import re
from collections.abc import Sequence

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import long_sort_solutions as solutions
from async_r1.tasks.drawn import DemonstrationOptions, DrawnTask
from async_r1.tasks.options import read_options
from async_r1.tasks.protocol import Completion, Prompt
from async_r1.templates import extract_answer

NUM_DIGITS = 28
NUM_PASSES = {1: (2, 3), 2: (4, 6), 3: (7, 12), 4: (13, 22), 5: (23, 26)}


class LongSort(DrawnTask):
    """The task `long_sort`; its options are `DemonstrationOptions`: a `blunt` step is right when
    two neighbours are in order."""

    name = "long_sort"
    styles = ("blunt", "careful")
    levels = tuple(NUM_PASSES)

    def __init__(self, cfg: TaskConfig):
        super().__init__(cfg)
        self._options = read_options(DemonstrationOptions, cfg)

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

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles of `long_sort_solutions`."""
        digits = _digits(prompt.prompt_id)
        self.check_style(style)
        if style == "blunt":
            return solutions.blunt(digits, rng, skill=self._options.blunt_skill)
        return solutions.careful(digits)

    def _draw(self, level: int, rng: random.Random) -> Prompt:
        while True:
            digits = _list_of(rng.randint(*NUM_PASSES[level]) - 1, rng)
            if _level(digits) == level:
                return _prompt(digits, level)

    def _question(self, prompt: Prompt) -> str:
        return bytes(_digits(prompt.prompt_id)).decode("ascii")


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


def _list_of(farthest: int, rng: random.Random) -> list[int]:
    """A list none of whose digits has to go more than `farthest` places to the left."""
    ordered = sorted(rng.randrange(10) for _ in range(NUM_DIGITS))
    left, digits = list(range(NUM_DIGITS)), []
    for place in range(NUM_DIGITS):
        due = left[0] <= place - farthest
        digits.append(ordered[left.pop(0 if due else rng.randrange(len(left)))])
    return digits
