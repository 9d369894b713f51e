"""Rows of data: where they come from, and the prompt that each of them is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from async_r1.errors import TaskError
from async_r1.schema import opt
from async_r1.tasks.answers import AnswerCheck, AnswerFrom, read_number
from async_r1.tasks.protocol import Prompt

_LEVEL = re.compile(r"\s*(?:level)?\s*(-?\d{1,9})\s*", re.IGNORECASE | re.ASCII)
_MAX_LEVEL = 10**9


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """What `task.options` of the tasks `jsonl` and `hf` have in common."""

    prompt_key: str = opt("prompt", doc="field of the question")
    answer_key: str = opt("answer", doc="field of the reference answer")
    level_key: str = opt("level", doc="field of the difficulty, an integer; without one it is 0")
    id_key: str = opt("", doc="field of a unique id; empty: the number of the row")
    answer_regex: str = opt("", doc="what of that field is the answer: its one group")
    answer: AnswerCheck = opt("exact", doc="when an answer is right; math: by math-verify")
    answer_from: AnswerFrom = opt("tags", doc="where a completion has its answer")
    eval_frac: float = opt(
        0.1, ge=0, lt=1, doc="share held out, by a hash of the question, if nothing else is"
    )
    bad_lines: Literal["error", "skip"] = opt("error", doc="skip: log bad rows, leave them out")


class Rows(Protocol):
    """A source of records, in a fixed order."""

    label: str  # for messages, as in "data/train.jsonl"
    unit: str  # "line" or "row"

    def scan(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Every row: its number, and its record or why there is none."""

    def read(self, number: int) -> Mapping[str, Any]:
        """The record of a number that `scan` gave."""


class BadRow(ValueError):
    """Why a record is no prompt."""


class RowReader:
    """Makes prompts of records."""

    def __init__(self, prefix: str, options: RowOptions) -> None:
        """`prefix` begins every id.

        Raises:
            TaskError: `answer_regex` is no regular expression of one group.
        """
        self._prefix = prefix
        self._options = options
        try:
            self._regex = re.compile(options.answer_regex, re.DOTALL)
        except re.error as error:
            raise TaskError(
                f"task.options.answer_regex must be a regular expression, got "
                f"{options.answer_regex!r}: {error}"
            ) from error
        if options.answer_regex and self._regex.groups != 1:
            raise TaskError(
                f"task.options.answer_regex must have one group, got {options.answer_regex!r}"
            )
        keys = (options.prompt_key, options.answer_key, options.level_key, options.id_key)
        self._keys = frozenset(keys)

    def prompt(self, number: int, record: Mapping[str, Any]) -> Prompt:
        """The prompt of a record; fields that it has no use for become `Prompt.extra`.

        Raises:
            BadRow: the record is none.
        """
        options = self._options
        text = record.get(options.prompt_key)
        if not isinstance(text, str) or not text.strip():
            raise BadRow(_fault(record, options.prompt_key, "text"))
        key = record.get(options.id_key) if options.id_key else number
        if not isinstance(key, str | int) or key == "" or isinstance(key, bool):
            raise BadRow(_fault(record, options.id_key, "text or an integer"))
        return Prompt(
            prompt_id=f"{self._prefix}{key}",
            text=text,
            answer=self._answer(record),
            level=self._level(record),
            extra={name: value for name, value in record.items() if name not in self._keys},
        )

    def _answer(self, record: Mapping[str, Any]) -> str:
        options = self._options
        value = record.get(options.answer_key)
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise BadRow(_fault(record, options.answer_key, "text or a number"))
        answer = str(value).strip()
        if options.answer_regex:
            match = self._regex.search(answer)
            if not match:
                raise BadRow(f"{options.answer_key!r} does not match task.options.answer_regex")
            answer = (match[1] or "").strip()
        if not answer:
            raise BadRow(f"{options.answer_key!r} is empty")
        if options.answer == "number" and read_number(answer) is None:
            raise BadRow(f"{options.answer_key!r} is not a number: {answer[:40]!r}")
        return answer

    def _level(self, record: Mapping[str, Any]) -> int:
        key = self._options.level_key
        if key not in record and key == RowOptions.level_key:
            return 0
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_LEVEL:
            return value
        match = _LEVEL.fullmatch(value) if isinstance(value, str) else None
        if not match:
            raise BadRow(_fault(record, key, "an integer"))
        return int(match[1])


def _fault(record: Mapping[str, Any], key: str, rule: str) -> str:
    if key not in record:
        return f"no {key!r}"
    value = record[key]
    if isinstance(value, str) and not value.strip():
        return f"{key!r} is empty"
    return f"{key!r} must be {rule}, got {repr(value)[:40]}"
