"""Where a completion says its answer, and whether that answer is the reference."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from async_r1.errors import TaskError
from async_r1.tasks.protocol import Completion, Prompt
from async_r1.templates import extract_answer

AnswerFrom = Literal["tags", "boxed", "text"]
AnswerCheck = Literal["exact", "number", "math"]

_MAX_NUMBER_CHARS = 100
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?", re.ASCII)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # a brace after a backslash is a character
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)


def find_answer(text: str, where: AnswerFrom) -> str | None:
    r"""The stripped answer of a completion; None if there is none.

    tags: the one <answer> block after the thinking.
    boxed: the last \boxed{...} after the thinking, braces balanced.
    text: all that follows the thinking.
    A completion without think tags is an answer throughout; one that never stops thinking has
    none.
    """
    if where == "tags":
        return extract_answer(text)
    _, closed, after = text.rpartition("</think>")
    if not closed and "<think>" in after:
        return None
    answer = after.strip() if where == "text" else _last_boxed(after)
    return answer or None


def read_number(text: str) -> Fraction | None:
    """The number that the whole text is, exactly; None if it is no number.

    Example: "$1,234.50", "1234.5", "2469/2" are the same; "18 apples" is none, nor is "1,23".
    """
    if len(text) > _MAX_NUMBER_CHARS:
        return None
    text = text.strip().rstrip(".").replace("\\$", "").replace("$", "").strip()
    text = text.removesuffix("\\%").removesuffix("%").strip()
    match = _NUMBER.fullmatch(_THOUSANDS.sub("", text))
    if not match:
        return None
    sign, number, denominator = match.groups()
    if denominator and not int(denominator):
        return None
    value = Fraction(number) / int(denominator or 1)
    return -value if sign == "-" else value


def answer_checker(check: AnswerCheck) -> Callable[[str, str], bool | None]:
    """`matches(reference, answer)`; None says that the reference itself cannot be read.

    exact: character by character, outer white space aside.
    number: both are numbers and equal, see `read_number`.
    math: mathematically equal, see `math_answers`.
    """
    if check == "math":
        from async_r1.math_answers import verify

        return verify
    return _same_number if check == "number" else _same_text


def score_answer(
    prompt: Prompt,
    completion: Completion,
    where: AnswerFrom,
    matches: Callable[[str, str], bool | None],
) -> float:
    """1 if the completion's answer is the reference, else 0.

    Raises:
        TaskError: the reference cannot be read, so that no answer could be right.
    """
    answer = find_answer(completion.text, where)
    # The reference is read even where there is no answer: a group all of whose members fail leaves,
    # one in which only the well-formed ones fail would train on the form alone.
    result = matches(prompt.answer, answer or "")
    if result is None:
        raise TaskError(f"the answer of prompt {prompt.prompt_id} is unreadable: {prompt.answer!r}")
    return float(result and answer is not None)


def _same_text(reference: str, answer: str) -> bool:
    return reference.strip() == answer.strip()


def _same_number(reference: str, answer: str) -> bool | None:
    expected = read_number(reference)
    return None if expected is None else expected == read_number(answer)


def _last_boxed(text: str) -> str | None:
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for match in _BRACE.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[begin : match.start()].strip()
    return None
