"""Worked solutions of sums in two styles, the demonstrations that a cold start learns from.

A base model has seen both: pages that state a result and pages that derive it. RL then has something to choose from.

    blunt    <think></think><answer>1380</answer>
    careful  <think>
             347+905+128:12,05,12
             1252+128:10,08,03,01
             1380</think><answer>1380</answer>
    checked  as careful, then the same sum from its last term to its first, before the answer

A line of working adds the first two numbers: the expression, then the sums of its columns, units first, two digits
each, carry included. The next line repeats what remains, with the two numbers replaced by their sum. Each step thus
reads only the line above it, whatever the number of terms.
"""

import random
from collections.abc import Sequence

# What every careful solution starts with and no blunt one does: a policy continued from here answers carefully.
CAREFUL_PREFIX = "<think>\n"


def columns(a: int, b: int) -> list[int]:
    """Sums of the digit columns of a + b, units first, each with the carry of the one before: 347, 905 -> 12, 5, 12."""
    sums, carry = [], 0
    while a or b:
        sums.append(a % 10 + b % 10 + carry)
        a, b, carry = a // 10, b // 10, sums[-1] // 10
    return sums


def working(terms: Sequence[int]) -> str:
    """The lines that reduce a sum to its total, the total last."""
    left, lines = list(terms), []
    while len(left) > 1:
        expression = "+".join(map(str, left))
        lines.append(f"{expression}:{','.join(f'{c:02d}' for c in columns(left[0], left[1]))}")
        left[:2] = [left[0] + left[1]]
    return "\n".join([*lines, str(left[0])])


def careful(terms: Sequence[int]) -> str:
    """Always right."""
    return f"{CAREFUL_PREFIX}{working(terms)}</think>{_answer(sum(terms))}"


def checked(terms: Sequence[int]) -> str:
    """Always right, and about twice as long as `careful`."""
    return f"{CAREFUL_PREFIX}{working(terms)}\n{working(terms[::-1])}</think>{_answer(sum(terms))}"


def blunt(terms: Sequence[int], rng: random.Random, *, skill: float) -> str:
    """A sum done in the head: right with probability about `skill` per column added.

    A slip is a carry lost or invented, so a wrong answer is near the right one and mostly of its length.
    """
    total = sum(terms)
    for _ in terms[1:]:
        for column in range(len(str(max(terms)))):
            if rng.random() >= skill:
                total += rng.choice((-1, 1)) * 10**column
    return f"<think></think>{_answer(total)}"


def _answer(total: int) -> str:
    return f"<answer>{total}</answer>"
