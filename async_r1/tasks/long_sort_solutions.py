"""Bubble sort written out, pass by pass; see `long_sort` for the questions.

    question  3, 5, 2
    careful   <think>33.52!55!
              32!33!55!
              22.33.55.</think><answer>2, 3, 5</answer>
    blunt     <think></think><answer>2, 5, 3</answer>

A line is a pass. It starts with the first digit, in hand. Then, for each place: the digit that is
put there, the smaller of that in hand and the next one; a mark; and the larger, in hand from here.
The mark is "!" from the first exchange of the pass on, "." before. A pass without any is the check
that the list is sorted, and the last; so the length of a solution follows from the list.

Every pass is as long as the question, and so is the answer: all that a token depends on stands at
one of a few fixed distances before it, which is what the nano model has the attention for.
"""

import random
from collections.abc import Sequence


def question(digits: Sequence[int]) -> str:
    """As in "3, 5, 2"."""
    return ", ".join(map(str, digits))


def passes(digits: Sequence[int]) -> list[str]:
    """The lines of working; the last one exchanges nothing."""
    lines: list[str] = []
    state = list(digits)
    while not lines or "!" in lines[-1]:
        line, mark, hand, after = f"{state[0]}", ".", state[0], []
        for digit in state[1:]:
            if digit < hand:
                mark = "!"
            after.append(min(hand, digit))
            hand = max(hand, digit)
            line += f"{after[-1]}{mark}{hand}"
        state = [*after, hand]
        lines.append(f"{line}{hand}{mark}")
    return lines


def careful(digits: Sequence[int]) -> str:
    """Always right."""
    working = "\n".join(passes(digits))
    return f"<think>{working}</think><answer>{question(sorted(digits))}</answer>"


def blunt(digits: Sequence[int], rng: random.Random, *, skill: float) -> str:
    """Sorted in the head: each two neighbours of the answer are in order with probability `skill`,
    so that a wrong answer is near the right one."""
    answer = sorted(digits)
    for i in range(len(answer) - 1):
        if rng.random() >= skill:
            answer[i : i + 2] = answer[i + 1], answer[i]
    return f"<think></think><answer>{question(answer)}</answer>"
