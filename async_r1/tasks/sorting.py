"""Sort numbers in ascending order: `sort 52 17 90 33`.

    level      1  2  3   4   5
    numbers    4  6  8  10  12

All have two digits. The styles of a demonstration:

    blunt    <think></think><answer>17 33 52 90</answer>
    careful  <think>
             17: 52 90 33
             33: 52 90
             52: 90
             90:</think><answer>17 33 52 90</answer>
    checked  as careful, with the working done twice

A line of working takes the smallest number out, and has the others in their order. A careful
solution is always right; a blunt one has each number behind its next one with probability
1 - `blunt_skill`.
"""

import random
import re
from collections.abc import Sequence

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks.drawn import DemonstrationOptions, DrawnTask
from async_r1.tasks.options import read_options
from async_r1.tasks.protocol import Completion, Prompt
from async_r1.templates import extract_answer

_COUNTS = {1: 4, 2: 6, 3: 8, 4: 10, 5: 12}
_LEVELS = {count: level for level, count in _COUNTS.items()}


class Sorting(DrawnTask):
    """The task `sorting`; its options are `DemonstrationOptions`."""

    name = "sorting"
    levels = tuple(_COUNTS)

    def __init__(self, cfg: TaskConfig):
        super().__init__(cfg)
        self._options = read_options(DemonstrationOptions, cfg)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt of an id, also one from another seed or size of the prompt set."""
        listed = prompt_id.removeprefix(f"{self.name}/").split(",")
        known = all(re.fullmatch("[1-9][0-9]", number) for number in listed)
        if not known or len(listed) not in _LEVELS or _prompt_id(listed) != prompt_id:
            raise TaskError(f"task {self.name} has no prompt {prompt_id!r}")
        answer = " ".join(sorted(listed))  # all have two digits
        return Prompt(prompt_id, f"sort {' '.join(listed)}", answer, _LEVELS[len(listed)])

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """1 if the answer has the numbers in order, with white space or commas between, else 0."""
        answer = extract_answer(completion.text)
        return float(
            answer is not None and answer.replace(",", " ").split() == prompt.answer.split()
        )

    def demonstrate(self, prompt: Prompt, style: str, rng: random.Random) -> str:
        """A solution in one of the styles that the module describes."""
        self.check_style(style)
        if style == "blunt":
            numbers = prompt.answer.split()
            for place in range(len(numbers) - 1):
                if rng.random() >= self._options.blunt_skill:
                    numbers[place : place + 2] = reversed(numbers[place : place + 2])
            return f"<think></think><answer>{' '.join(numbers)}</answer>"
        working = _working(prompt.text.split()[1:])
        if style == "checked":
            working = f"{working}\n{working}"
        return f"<think>\n{working}</think><answer>{prompt.answer}</answer>"

    def _draw(self, level: int, rng: random.Random) -> Prompt:
        return self.get(_prompt_id([str(rng.randint(10, 99)) for _ in range(_COUNTS[level])]))

    def _question(self, prompt: Prompt) -> str:
        return prompt.answer


def _prompt_id(numbers: Sequence[str]) -> str:
    return f"{Sorting.name}/{','.join(numbers)}"


def _working(numbers: Sequence[str]) -> str:
    left, lines = list(numbers), []
    while left:
        smallest = min(left)
        left.remove(smallest)
        lines.append(f"{smallest}: {' '.join(left)}".rstrip())
    return "\n".join(lines)
