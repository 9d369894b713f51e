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

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import opt
from async_r1.tasks import arithmetic_solutions as solutions
from async_r1.tasks.drawn import DemonstrationOptions, DrawnTask
from async_r1.tasks.options import read_options
from async_r1.tasks.protocol import Completion, Prompt
from async_r1.templates import extract_answer

_MAX_TERMS = 5


@dataclass(frozen=True, kw_only=True)
class ArithmeticOptions(DemonstrationOptions):
    """`task.options` of the task `arithmetic`."""

    layout: Literal["plain", "table"] = opt(
        "plain",
        doc="plain: 2395 + 972 = ?; table, for the smallest models: every number in a cell as wide "
        "as a line of working, every question as long as the longest, so that the number that a "
        "line needs is always equally far back",
    )


class Arithmetic(DrawnTask):
    """The task `arithmetic`; its options are `ArithmeticOptions`."""

    name = "arithmetic"
    levels = tuple(range(1, 6))

    def __init__(self, cfg: TaskConfig):
        super().__init__(cfg)
        self._options = read_options(ArithmeticOptions, cfg)

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

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles of `arithmetic_solutions`."""
        terms = _terms(prompt.prompt_id)
        self.check_style(style)
        if style == "blunt":
            return solutions.blunt(terms, rng, skill=self._options.blunt_skill)
        return solutions.careful(terms) if style == "careful" else solutions.checked(terms)

    def _draw(self, level: int, rng: random.Random) -> Prompt:
        while True:
            terms = _random_terms(level, rng)
            if _level(terms) == level:
                return self._prompt(terms, level)

    def _question(self, prompt: Prompt) -> str:
        return repr(sorted(_terms(prompt.prompt_id)))

    def _prompt(self, terms: Sequence[int], level: int) -> Prompt:
        if self._options.layout == "table":
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


def _random_terms(level: int, rng: random.Random) -> list[int]:
    """Terms of a sum that is of the level, or of none: the first and the others by digits."""
    if level == 2:
        digits = [rng.randint(1, 3) for _ in range(rng.randint(2, _MAX_TERMS - 1))]
    else:
        digits = [3] * (1 if level == 1 else level - 1)
    terms = [rng.randrange(1000, 5000)]
    return terms + [rng.randrange(10 ** (count - 1), 10**count) for count in digits]
