"""Whether an answer is mathematically equal to the reference, by math-verify.

math-verify parses both to sympy; this module decides what it is given, because it

- is asymmetric: the reference always comes first (`1<x<2` accepts `(1,2)`, not the reverse);
- times out by `signal.alarm`, which fails outside a main thread: its timeouts are off, and sympy
  may take for ever on `9^{9^9}`. Call it where a process can be killed (`Task.isolated`);
- reads a word as a product of letters, so that `listen` would equal `silent`: words are text here;
- does not read single letters outside of mathematics: choices (A to Z) are compared as letters;
- calls two empty answers different: a reference that says nothing is None here, never 0.

What it accepts, and this module with it: units are dropped (`12 cm` is 12), separators too
(`1,234`), `50%` equals both 0.5 and 50, and decimals equal fractions to six digits (0.333333 is
1/3, 0.333 is not).
"""

import logging
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

from async_r1.errors import TaskError

MAX_CHARS = 300  # of a reference or an answer: longer ones are no answers, and cost sympy minutes
_CACHE_SIZE = 20_000

_FUNCTIONS = frozenset(
    "sqrt sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp gcd lcm max min mod "
    "det deg inf".split()
)
_CHOICE = re.compile(r"\(?([A-Z])[).:]?")
_CHOICE_WITH_TEXT = re.compile(r"(?:\(([A-Z])\)|([A-Z])[).:])\s+\S.*", re.DOTALL)
_WRAPPER = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_WORDS_ONLY = re.compile(r"[A-Za-z][A-Za-z\s,.'-]*")
_SCIENTIFIC = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?![A-Za-z\d.])")
_DELIMITED = re.compile(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\boxed", re.DOTALL)


class _Library(NamedTuple):
    parse: Callable[[str], list[Any]]
    equal: Callable[[Any, Any], bool]


@lru_cache(_CACHE_SIZE)
def verify(gold: str, answer: str) -> bool | None:
    """Whether `answer` is equal to the reference `gold`; the same pair is worked out once.

    Returns:
        None if the reference cannot be read: whoever scores must leave the rollout out, for 0
        would punish right answers.

    Raises:
        TaskError: math-verify is not installed.
    """
    gold, answer = _clean(gold), _clean(answer)
    if not gold_parses(gold):
        return None
    if not answer or len(answer) > MAX_CHARS:
        return False
    plain = _unwrapped(gold)
    if choice := _CHOICE.fullmatch(plain):
        return _letter(_unwrapped(answer)) == choice[1]
    if _is_text(plain):
        return _folded(plain) == _folded(_unwrapped(answer))
    library = _library()
    parsed = library.parse(_mathematics(answer))
    return bool(parsed) and library.equal(_parsed_gold(gold), parsed)


def gold_parses(gold: str) -> bool:
    """Whether answers can be compared with this reference at all.

    Raises:
        TaskError: math-verify is not installed.
    """
    gold = _clean(gold)
    if not gold or len(gold) > MAX_CHARS:
        return False
    plain = _unwrapped(gold)
    if _CHOICE.fullmatch(plain) or _is_text(plain):
        return True
    return bool(_parsed_gold(gold))


def warm_up() -> None:
    """Import math-verify and have it build its grammar: a second or more, before time counts.

    Raises:
        TaskError: math-verify is not installed.
    """
    verify("1/2", "0.5")


@lru_cache(_CACHE_SIZE)
def _parsed_gold(gold: str) -> list[Any]:
    return _library().parse(gold if _DELIMITED.search(gold) else f"${gold}$")


def _clean(text: str) -> str:
    """The same text in the spelling that math-verify reads."""
    text = text.strip().replace("\\%", "%").replace("\\$", "").replace("\u2212", "-")
    if text.count("$") == 1:  # an amount of money, no delimiter
        text = text.replace("$", "")
    return _SCIENTIFIC.sub(r"\1\\cdot 10^{\2}", text).strip()


def _unwrapped(text: str) -> str:
    """Without the delimiters and the commands that only say how text is set."""
    text = text.strip().strip("$").strip()
    while (inner := _WRAPPER.sub(r"\1", text)) != text:
        text = inner.strip()
    return text


def _letter(answer: str) -> str:
    """The choice that an answer names, with or without its text; "" if none or several."""
    match = _CHOICE.fullmatch(answer.upper()) or _CHOICE_WITH_TEXT.fullmatch(answer)
    return next(filter(None, match.groups()), "") if match else ""


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(_COMMAND.sub(" ", text))} - _FUNCTIONS


def _is_text(plain: str) -> bool:
    return bool(_WORDS_ONLY.fullmatch(plain)) and bool(_words(plain))


def _folded(text: str) -> str:
    return " ".join(text.casefold().strip(" .").split())


def _mathematics(answer: str) -> str:
    """A bare formula gets delimiters; in a sentence the last formula or number counts."""
    if _DELIMITED.search(answer) or _words(_WRAPPER.sub(" ", answer)):
        return answer
    return f"${answer}$"


@cache
def _library() -> _Library:
    try:
        import math_verify
    except ImportError:
        raise TaskError(
            "comparing answers as mathematics needs math-verify: pip install 'async_r1[math]'"
        ) from None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that timeouts are off

    def parse(text: str) -> list[Any]:
        parsed: list[Any] = math_verify.parse(
            text, fallback_mode="no_fallback", parsing_timeout=None
        )
        return parsed

    def equal(gold: Any, answer: Any) -> bool:
        return bool(math_verify.verify(gold, answer, timeout_seconds=None))

    return _Library(parse, equal)
