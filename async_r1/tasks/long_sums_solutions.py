"""Worked solutions of long sums, in two styles; see `long_sums` for the questions.

    blunt    <think></think><answer>0160</answer>
    careful  <think>
             A47+:07040000=0047-47=0000
             B13+:10060000=0060-13=0047
             C99=:09150100=0159-99=0060
             C99=;09090000=0099-99=0000
             B13+;12110100=0112-13=0099
             A47+;09050100=0159-47=0112</think><answer>0159</answer>

A line of working copies a term with its label and its sign, adds it to the running total (the sums
of the columns, units first, two digits each, carry included: 47+13 is 7+3=10, 4+1+1=06), writes
the new total out and checks it by taking the term away again. The second half is the check of
the whole: from zero, from the last term up to the first. All lines are equally long, so that
what a line needs of the one before stands at a fixed distance; a term is found by its label.
"""

import random
from collections.abc import Iterator, Sequence

from async_r1.tasks.arithmetic_solutions import CAREFUL_PREFIX, COLUMNS, column_sums

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # of the terms, in this order


def question(terms: Sequence[int]) -> str:
    """Labelled terms of two digits, as in "A47+B13+C99="."""
    return "".join(map("".join, _labelled(terms)))


def answer(total: int) -> str:
    """The total as the lines write it, with leading zeros."""
    return f"{total:0{COLUMNS}d}"


def careful(terms: Sequence[int]) -> str:
    """Always right."""
    entries = list(_labelled(terms))
    lines = [*_lines(entries, ":"), *_lines(entries[::-1], ";")]
    return f"{CAREFUL_PREFIX}{chr(10).join(lines)}</think>{_answer(sum(terms))}"


def blunt(terms: Sequence[int], rng: random.Random, *, skill: float) -> str:
    """A sum done in the head: each term is added right with probability `skill`.

    A slip is a carry lost or invented, so that a wrong answer is near the right one.
    """
    total = sum(terms)
    for _ in terms[1:]:
        if rng.random() >= skill:
            total += rng.choice((-10, 10))
    return f"<think></think>{_answer(max(total, 0))}"


def _labelled(terms: Sequence[int]) -> Iterator[tuple[str, str, str]]:
    signs = "+" * (len(terms) - 1) + "="
    for label, term, sign in zip(LABELS, terms, signs, strict=False):
        yield label, f"{term:02d}", sign


def _lines(entries: Sequence[tuple[str, str, str]], mark: str) -> Iterator[str]:
    total = 0
    for label, term, sign in entries:
        before, sums = total, column_sums(total, int(term))
        total += int(term)
        columns = "".join(f"{column:02d}" for column in sums)
        check = f"{answer(total)}-{term}={answer(before)}"
        yield f"{label}{term}{sign}{mark}{columns}={check}"


def _answer(total: int) -> str:
    return f"<answer>{answer(total)}</answer>"
