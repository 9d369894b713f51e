"""Templates and the form of completions: truth tables."""

import pytest

from async_r1.templates import TEMPLATES, extract_answer, is_well_formed, render

GOOD = "<think>a</think><answer>7</answer>"


def test_r1_zero_ends_where_the_completion_begins():
    text = render("r1_zero", "What is 3+4?")
    assert text.startswith("A conversation between User and Assistant.")
    assert text.endswith("User: What is 3+4?. Assistant:")
    assert "<think> reasoning process here </think> <answer> answer here </answer>" in text


@pytest.mark.parametrize("template", TEMPLATES)
def test_questions_are_inserted_verbatim(template):
    question = "{question} {0} %s \\1 {{}}"
    assert question in render(template, question)


def test_unknown_template_lists_the_known():
    with pytest.raises(ValueError, match="r1_zero, plain"):
        render("r2", "1+1")


@pytest.mark.parametrize(
    "completion, answer, well_formed",
    [
        (GOOD, "7", True),
        ("<think></think><answer>7</answer>", "7", True),
        (" <think>a\nb</think>\n <answer> 7 </answer>\n", "7", True),
        ("<think>a</think><answer></answer>", "", True),
        ("<think>a</think><answer>x\ny</answer>", "x\ny", True),
        # Answers that can be read, in a form that is not the one asked for.
        ("a</think><answer>7</answer>", "7", False),
        ("x" + GOOD, "7", False),
        (GOOD + "x", "7", False),
        ("<think>a</think>so<answer>7</answer>", "7", False),
        ("<think><think>a</think><answer>7</answer>", "7", False),
        ("<answer>8</answer>" + GOOD, "7", False),
        ("<think><answer>8</answer></think><answer>7</answer>", "7", False),
        # Answers that cannot.
        ("", None, False),
        ("7", None, False),
        ("<answer>7</answer>", None, False),
        ("<think>a<answer>7</answer>", None, False),
        ("<think>a</think>7", None, False),
        ("<think>a</think><answer>7", None, False),
        ("<think>a</think>7</answer>", None, False),
        ("<think>a</think></answer>7<answer>", None, False),
        ("<think><answer>7</answer></think>", None, False),
        (GOOD + "<answer>8</answer>", None, False),
        (GOOD + "<answer>", None, False),
        (GOOD + "</think>", None, False),
        (GOOD + "<think>", None, False),
        (GOOD + GOOD, None, False),
        ("<think>a</think><answer><answer>7</answer></answer>", None, False),
        ("<think>a</think><answer><think>7</answer>", None, False),
        ("<THINK>a</THINK><ANSWER>7</ANSWER>", None, False),
    ],
)
def test_what_counts_as_an_answer_and_as_the_form(completion, answer, well_formed):
    assert extract_answer(completion) == answer
    assert is_well_formed(completion) is well_formed
