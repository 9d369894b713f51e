"""Equality of answers: a table of what is known to go wrong."""

import sys
import threading

import pytest

from async_r1 import math_answers
from async_r1.errors import TaskError
from async_r1.math_answers import MAX_CHARS, gold_parses, verify


@pytest.mark.parametrize(
    "gold, answer, expected",
    [
        # numbers, fractions, separators
        ("1/2", "0.5", True),
        ("1/2", "\\frac{1}{2}", True),
        ("1/2", "$\\frac12$", True),
        ("\\boxed{3}", "3", True),
        ("3", "\\boxed{3}", True),
        ("3", "The answer is 3.", True),
        ("3", "so $x$ is $\\boxed{3}$ and not 4", True),  # boxed goes before anything later
        ("4", "so $x$ is $\\boxed{3}$ and not 4", False),
        ("4", "first 3, then 4", True),  # otherwise the last one counts
        ("1,234", "1234", True),
        ("1234", "1,234", True),
        ("-3", "\u22123", True),
        ("-3", "3", False),
        ("1e5", "100000", True),
        ("2.5e-3", "0.0025", True),
        ("1/3", "0.333", False),
        ("1/3", "0.333333", True),
        ("\\pi", "3.14", False),
        # percent and units
        ("50\\%", "0.5", True),
        ("$50\\%$", "0.5", True),
        ("50%", "50", True),
        ("50", "50%", True),
        ("0.5", "50\\%", True),
        ("0.5", "5%", False),
        ("12", "12 cm", True),
        ("12 cm", "12", True),
        ("5", "5 apples", True),
        ("5", "$5", True),
        ("\\$5", "5", True),
        ("90", "90^\\circ", True),
        # formulas
        ("x^2+2x+1", "(x+1)^2", True),
        ("x^2+2x+1", "(x-1)^2", False),
        ("x=3", "3", True),
        ("3", "x=3", True),
        ("sqrt(2)", "\\sqrt{2}", True),
        ("\\{1,2\\}", "\\{2,1\\}", True),
        ("(1,2)", "(2,1)", False),
        # the reference first
        ("1<x<2", "(1,2)", True),
        ("(1,2)", "1<x<2", False),
        # choices
        ("A", "A", True),
        ("(B)", "b", True),
        ("B", "\\boxed{\\text{(B)}}", True),
        ("B", "B) twelve", True),
        ("B", "(B) twelve", True),
        ("B", "C", False),
        ("A", "A or B", False),
        ("A", "A nice day", False),
        ("A", "", False),
        # words are no products
        ("yes", "Yes.", True),
        ("yes", "\\text{yes}", True),
        ("listen", "silent", False),
        ("no solution", "no  solution", True),
        # nothing to read
        ("", "", None),
        ("", "3", None),
        ("\\frac{", "3", None),
        ("7" * (MAX_CHARS + 1), "7", None),
        ("7", "7" * (MAX_CHARS + 1), False),
        ("7", "", False),
        ("7", "nothing", False),
        ("7", "\\frac{", False),
    ],
)  # fmt: skip
def test_table(gold: str, answer: str, expected: bool | None) -> None:
    assert verify(gold, answer) is expected
    assert gold_parses(gold) is (expected is not None)


def test_it_works_outside_the_main_thread() -> None:
    results: list[bool | None] = []
    verify.cache_clear()
    thread = threading.Thread(target=lambda: results.append(verify("1/2", "0.5")))
    thread.start()
    thread.join(30)
    assert results == [True]


def test_a_pair_is_worked_out_once() -> None:
    verify.cache_clear()
    assert verify("2", "2.0") is verify("2", "2.0") is True
    assert (verify.cache_info().misses, verify.cache_info().hits) == (1, 1)


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    math_answers._library.cache_clear()
    math_answers._parsed_gold.cache_clear()
    verify.cache_clear()
    try:
        with pytest.raises(TaskError, match=r"async_r1\[math\]"):
            verify("1/2", "0.5")
    finally:
        math_answers._library.cache_clear()
