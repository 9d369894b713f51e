"""Where answers are found, and when they are right."""

import pytest

from async_r1.errors import TaskError
from async_r1.tasks import Completion, Prompt
from async_r1.tasks.answers import answer_checker, find_answer, read_number, score_answer


@pytest.mark.parametrize(
    "text, tags, boxed, rest",
    [
        ("<think>a</think><answer> 7 </answer>", "7", None, "<answer> 7 </answer>"),
        ("<think>\\boxed{3}</think> so \\boxed{4}, no, \\boxed{5}.", None, "5", None),
        ("\\boxed{\\frac{1}{2}} is it", None, "\\frac{1}{2}", "\\boxed{\\frac{1}{2}} is it"),
        ("\\boxed{\\{1, 2\\}}", None, "\\{1, 2\\}", None),
        ("\\boxed{a\\\\}b", None, "a\\\\", None),
        ("\\boxed{1} then \\boxed{2", None, None, None),
        ("<think>still \\boxed{1} <answer>2</answer>", None, None, None),
        ("<think>a</think>b<think>c</think> d ", None, None, "d"),
        ("", None, None, None),
        ("<think></think>  ", None, None, None),
    ],
)
def test_answers_are_found_after_the_thinking(text, tags, boxed, rest):
    assert find_answer(text, "tags") == tags
    assert find_answer(text, "boxed") == boxed
    if rest is not None or not text.strip():
        assert find_answer(text, "text") == rest
    elif "<think>still" in text or text.endswith("</think>  "):
        assert find_answer(text, "text") is None


@pytest.mark.parametrize(
    "one, other",
    [("1234.50", "$1,234.5"), ("1/2", "0.5"), ("50%", "50"), ("-3", "-3.0"), ("7", "\\$7."),
     ("0", "-0"), ("1,000,000", "1000000"), (".5", "0.50")],
)  # fmt: skip
def test_equal_numbers(one, other):
    assert read_number(one) == read_number(other) is not None


@pytest.mark.parametrize(
    "text",
    ["", "18 apples", "1,23", "1/0", "one", "1e400", "--1", "1 2", "\uff11", "9" * 101, "1_0"],
)
def test_what_is_no_number(text):
    assert read_number(text) is None


def test_checks_differ_in_what_they_accept():
    exact, number = answer_checker("exact"), answer_checker("number")
    math = answer_checker("math")
    assert exact("7", " 7\n") and not exact("7", "7.0")
    assert number("7", "7.0") and not number("7", "x") and number("x", "7") is None
    assert math("\\frac{1}{2}", "0.5") and not math("\\frac{1}{2}", "0.6")


def test_score_and_an_unreadable_reference():
    prompt, done = Prompt("p/1", "?", "7", 0), Completion("<think></think>7.0", 3, truncated=False)
    assert score_answer(prompt, done, "text", answer_checker("number")) == 1.0
    assert score_answer(prompt, done, "text", answer_checker("exact")) == 0.0
    assert score_answer(prompt, done, "tags", answer_checker("exact")) == 0.0
    with pytest.raises(TaskError, match="p/1 is unreadable: 'seven'"):
        bad = Prompt("p/1", "?", "seven", 0)
        score_answer(bad, done, "text", answer_checker("number"))
    with pytest.raises(TaskError, match="unreadable"):  # no answer is no excuse
        score_answer(bad, done, "tags", answer_checker("number"))
    with pytest.raises(TaskError, match="unreadable"):
        score_answer(Prompt("p/1", "?", "?!", 0), done, "tags", answer_checker("math"))
