"""Make a number of other numbers, as in the game countdown: `make 24 from 3 5 9`.

    level            1    2    3    4    5
    numbers          3    3    4    4    5
    largest number   20   99   20   99   99

Any expression of +, -, *, / and parentheses counts that has the value and uses every number
exactly once (`use=any`: at most once). Every question has a solution, for it is made from one: its
id is that solution, whose numbers are shown in ascending order. The styles of a demonstration:

    blunt    <think></think><answer>9*3-5</answer>
    careful  <think>
             3 5 9
             9*3=27: 5 27
             27-3=24: 24</think><answer>9*3-5</answer>
    checked  as careful, with the working done twice

A careful solution is always right; a blunt one takes each sign right with probability
`blunt_skill`.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.schema import opt
from async_r1.tasks.drawn import DemonstrationOptions, DrawnTask
from async_r1.tasks.expressions import Value, calculate, evaluate
from async_r1.tasks.options import read_options
from async_r1.tasks.protocol import Completion, Prompt
from async_r1.templates import extract_answer

_SHAPES = {1: (3, 20), 2: (3, 99), 3: (4, 20), 4: (4, 99), 5: (5, 99)}  # numbers, the largest
_MAX_TARGET = 999
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True, kw_only=True)
class CountdownOptions(DemonstrationOptions):
    """`task.options` of the task `countdown`."""

    use: Literal["all", "any"] = opt("all", doc="numbers that an answer must use; any: some")


@dataclass(frozen=True)
class _Term:
    """An expression under way: a number, or two terms and a sign."""

    value: int
    text: str
    precedence: int = 3


class Countdown(DrawnTask):
    """The task `countdown`; its options are `CountdownOptions`."""

    name = "countdown"
    levels = tuple(_SHAPES)

    def __init__(self, cfg: TaskConfig):
        super().__init__(cfg)
        self._options = read_options(CountdownOptions, cfg)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also one from another seed or size of the prompt set."""
        solution = prompt_id.removeprefix(f"{self.name}/")
        found = evaluate(solution)
        level = _level(found) if found else None
        if not found or not level or prompt_id != f"{self.name}/{solution}" or " " in solution:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        numbers, target = sorted(found.numbers), int(found.value)
        text = f"make {target} from {' '.join(map(str, numbers))}"
        return Prompt(prompt_id, text, solution, level, {"numbers": numbers, "target": target})

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer has the value and uses the numbers as it should, else 0."""
        answer = extract_answer(completion.text)
        found = evaluate(answer) if answer else None
        if found is None:
            return 0.0
        given, used = Counter(prompt.extra["numbers"]), Counter(found.numbers)
        fits = used == given if self._options.use == "all" else used <= given
        return float(fits and found.value == prompt.extra["target"])

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles that the module describes."""
        self.check_style(style)
        if style == "blunt":
            signs = [
                rng.choice("+-*/".replace(character, ""))
                if character in _PRECEDENCE and rng.random() >= self._options.blunt_skill
                else character
                for character in prompt.answer
            ]
            return f"<think></think><answer>{''.join(signs)}</answer>"
        working = _working(prompt)
        if style == "checked":
            working = f"{working}\n{working}"
        return f"<think>\n{working}</think><answer>{prompt.answer}</answer>"

    def _draw(self, level: int, rng: random.Random) -> Prompt:
        count, largest = _SHAPES[level]
        while True:
            numbers = [rng.randint(1, largest) for _ in range(count)]
            term = _combine([_Term(number, str(number)) for number in numbers], rng)
            if _level_of_numbers(numbers) == level and term.value <= _MAX_TARGET:
                return self.get(f"{self.name}/{term.text}")

    def _question(self, prompt: Prompt) -> str:
        return prompt.text


def _level(solution: Value) -> int | None:
    """The easiest level that has this solution, if any."""
    values = [solution.value, *(step.result for step in solution.steps)]
    if min(values) < 1 or any(v.denominator > 1 for v in values) or solution.value > _MAX_TARGET:
        return None
    return _level_of_numbers(solution.numbers)


def _level_of_numbers(numbers: Sequence[int]) -> int | None:
    for level, (count, largest) in _SHAPES.items():
        if len(numbers) == count and min(numbers) >= 1 and max(numbers) <= largest:
            return level
    return None


def _working(prompt: Prompt) -> str:
    """The numbers, then a line for each operation, with what is left to use after it."""
    solution = evaluate(prompt.answer)
    assert solution is not None
    left: list[int] = sorted(solution.numbers)
    lines = [" ".join(map(str, left))]
    for step in solution.steps:
        left.remove(int(step.left))
        left.remove(int(step.right))
        left = sorted([*left, int(step.result)])
        done = f"{step.left}{step.sign}{step.right}={step.result}"
        lines.append(f"{done}: {' '.join(map(str, left))}")
    return "\n".join(lines)


def _combine(terms: list[_Term], rng: random.Random) -> _Term:
    """All terms in one; every value on the way is a positive whole number."""
    while len(terms) > 1:
        left, right = rng.sample(terms, 2)
        signs = "+*"
        if left.value > right.value:
            signs += "-"
        if right.value > 1 and left.value % right.value == 0:
            signs += "/"
        terms.remove(left)
        terms.remove(right)
        terms.append(_join(left, rng.choice(signs), right))
    return terms[0]


def _join(left: _Term, sign: str, right: _Term) -> _Term:
    rank = _PRECEDENCE[sign]
    before = f"({left.text})" if left.precedence < rank else left.text
    tight = right.precedence < rank or (right.precedence == rank and sign in "-/")
    after = f"({right.text})" if tight else right.text
    value = calculate(left.value, sign, right.value)
    assert value.denominator == 1
    return _Term(int(value), before + sign + after, rank)
