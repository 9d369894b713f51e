"""Worked solutions of sums, the demonstrations that a cold start learns from, in three styles.

A base model has read pages that state a result and pages that derive it; RL then has something to
choose from.

    blunt    <think></think><answer>3520</answer>
    careful  <think>
             2395:05090302
              972:07161303
              153:10120503</think><answer>3520</answer>
    checked  as careful, with the working done twice

A line of working adds one term to the running total: the term, then the sums of its columns, units
first, two digits each, carry included. 972 after 2395: 5+2=07, 9+7=16, 3+9+1=13, 2+0+1=03.
"""

import random
from collections.abc import Sequence

COLUMNS = 4  # digits of the largest total
LINE_WIDTH = COLUMNS + 1 + 2 * COLUMNS + 1  # characters, line end included

# What every careful solution starts with and no blunt one does: a policy that continues from here
# answers carefully.
CAREFUL_PREFIX = "<think>\n"


def column_sums(total: int, term: int) -> list[int]:
    """The sums of the columns of total + term, units first, each with the carry into it.

    Example: column_sums(2395, 972) == [7, 16, 13, 3]
    """
    sums: list[int] = []
    for place in range(COLUMNS):
        carry = sums[-1] // 10 if sums else 0
        sums.append(total // 10**place % 10 + term // 10**place % 10 + carry)
    return sums


def working(terms: Sequence[int]) -> str:
    """One line per term; the first adds to zero."""
    lines, total = [], 0
    for term in terms:
        sums = "".join(f"{column:02d}" for column in column_sums(total, term))
        lines.append(f"{term:>{COLUMNS}}:{sums}")
        total += term
    return "\n".join(lines)


def careful(terms: Sequence[int]) -> str:
    """Always right."""
    return f"{CAREFUL_PREFIX}{working(terms)}</think>{_answer(sum(terms))}"


def checked(terms: Sequence[int]) -> str:
    """Always right, and about twice as long as `careful`."""
    return f"{CAREFUL_PREFIX}{working(terms)}\n{working(terms)}</think>{_answer(sum(terms))}"


def blunt(terms: Sequence[int], rng: random.Random, *, skill: float) -> str:
    """A sum done in the head: each column added is right with probability `skill`.

    A slip is a carry lost or invented, so that a wrong answer is near the right one.
    """
    total = sum(terms)
    for term in terms[1:]:
        for place in range(len(str(term))):
            if rng.random() >= skill:
                total += rng.choice((-1, 1)) * 10**place
    return f"<think></think>{_answer(total)}"


def _answer(total: int) -> str:
    return f"<answer>{total}</answer>"
