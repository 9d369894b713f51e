"""A source of rows, checked once: arrays of what is needed to choose and find its prompts."""

import hashlib
import logging
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from async_r1.errors import TaskError
from async_r1.tasks.options import did_you_mean
from async_r1.tasks.rows import BadRow, RowOptions, RowReader, Rows

log = logging.getLogger(__name__)

_SHOWN = 5  # bad rows that an error quotes


def hash_of(text: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def question_hash(text: str) -> int:
    """The same for questions that differ in white space alone."""
    return hash_of(" ".join(text.split()))


@dataclass(frozen=True)
class RowIndex:
    """The good rows of a source, in its order [N]; 32 bytes each."""

    numbers: npt.NDArray[np.int64]
    levels: npt.NDArray[np.int64]
    questions: npt.NDArray[np.uint64]  # `question_hash`
    ids: npt.NDArray[np.uint64]  # `hash_of` the prompt id

    def take(self, chosen: npt.NDArray[Any]) -> "RowIndex":
        """Some of the rows, by mask or positions."""
        return RowIndex(
            self.numbers[chosen], self.levels[chosen], self.questions[chosen], self.ids[chosen]
        )


def index_rows(rows: Rows, reader: RowReader, options: RowOptions) -> RowIndex:
    """Read every row once. Bad rows are an error, or logged one by one and left out.

    Raises:
        TaskError: there are bad rows (the first few are quoted), or no good ones.
    """
    numbers, levels, questions, ids = array("q"), array("q"), array("Q"), array("Q")
    bad: list[tuple[int, str]] = []
    keys: dict[str, None] = {}
    for number, record in rows.scan():
        if isinstance(record, str):
            bad.append((number, record))
            continue
        try:
            prompt = reader.prompt(number, record)
        except BadRow as error:
            keys.update(dict.fromkeys(record))
            bad.append((number, str(error)))
            continue
        numbers.append(number)
        levels.append(prompt.level)
        questions.append(question_hash(prompt.text))
        ids.append(hash_of(prompt.prompt_id))
    index = RowIndex(
        np.frombuffer(numbers, np.int64),
        np.frombuffer(levels, np.int64),
        np.frombuffer(questions, np.uint64),
        np.frombuffer(ids, np.uint64),
    )
    index = _without_duplicates(rows, reader, index, bad)
    _report(rows, options, sorted(bad), keys)
    if not len(index.numbers):
        raise TaskError(f"{rows.label} has no prompt: an empty task")
    return index


def _without_duplicates(
    rows: Rows, reader: RowReader, index: RowIndex, bad: list[tuple[int, str]]
) -> RowIndex:
    order = np.argsort(index.ids, kind="stable")
    again = np.flatnonzero(index.ids[order][1:] == index.ids[order][:-1]) + 1
    if not len(again):
        return index
    for position in again.tolist():
        number, first = int(index.numbers[order[position]]), int(index.numbers[order[position - 1]])
        prompt_id = reader.prompt(number, rows.read(number)).prompt_id
        bad.append((number, f"its id {prompt_id} is that of {rows.unit} {first}"))
    keep = np.ones(len(order), bool)
    keep[order[again]] = False
    return index.take(keep)


def _report(
    rows: Rows, options: RowOptions, bad: list[tuple[int, str]], keys: Mapping[str, None]
) -> None:
    if not bad:
        return
    count = f"{len(bad)} bad {rows.unit}{'s' if len(bad) > 1 else ''}"
    if options.bad_lines == "skip":
        for number, why in bad:
            log.warning("%s: %s %d is left out: %s", rows.label, rows.unit, number, why)
        log.warning("%s: %s left out", rows.label, count)
        return
    quoted = "; ".join(f"{rows.unit} {number}: {why}" for number, why in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise TaskError(
        f"{rows.label} has {count}: {quoted}{more}{_missing_key(options, list(keys))}; "
        f"task.options.bad_lines=skip leaves them out"
    )


def _missing_key(options: RowOptions, keys: list[str]) -> str:
    """What to do where bad records lack a field that the options name."""
    if keys:
        for option in ("prompt_key", "answer_key", "level_key", "id_key"):
            key = getattr(options, option)
            if key and key not in keys and (option, key) != ("level_key", RowOptions.level_key):
                return f"; set task.options.{option}{did_you_mean(key, keys)}"
    return ""
