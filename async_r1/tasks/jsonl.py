"""The task `jsonl`: a file with one JSON object per line, `{"prompt", "answer", "level"}`."""

import json
import os
import weakref
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from async_r1.config_task import TaskConfig
from async_r1.schema import opt
from async_r1.tasks.options import existing_file, read_options
from async_r1.tasks.row_task import RowTask
from async_r1.tasks.rows import BadRow, RowOptions


@dataclass(frozen=True, kw_only=True)
class JsonlOptions(RowOptions):
    """`task.options` of the task `jsonl`."""

    path: str = opt("", doc="the file")
    eval_path: str = opt("", doc="a file that is held out; empty: eval_frac of the other")


class Jsonl(RowTask):
    """The task `jsonl`; its options are `JsonlOptions`."""

    def __init__(self, cfg: TaskConfig):
        options = read_options(JsonlOptions, cfg)
        train = JsonLines(existing_file(options.path, "task.options.path"), options.path)
        evals = None
        if options.eval_path:
            path = existing_file(options.eval_path, "task.options.eval_path")
            evals = JsonLines(path, options.eval_path)
        super().__init__(cfg, options, train, evals)


class JsonLines:
    """The lines of a file, numbered from 1; lines of white space alone are no rows."""

    unit = "line"

    def __init__(self, path: Path, label: str) -> None:
        self.label = label
        self._path = path
        self._offsets = array("q", [0])  # byte at which each line begins, and the last one ends

    def scan(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Every line that is not blank: its number, and its object or why it is none."""
        self._offsets = offsets = array("q", [0])  # grows: lines already given can be read back
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                offsets.append(offsets[-1] + len(line))
                if line.isspace():
                    continue
                try:
                    yield number, _parse(line)
                except BadRow as error:
                    yield number, str(error)

    def read(self, number: int) -> Mapping[str, Any]:
        """The object of a line.

        Raises:
            BadRow: it is not there any more.
        """
        begin, end = self._offsets[number - 1 : number + 1]
        return _parse(os.pread(self._descriptor, end - begin, begin))

    @cached_property
    def _descriptor(self) -> int:
        descriptor = os.open(self._path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor


def _parse(line: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a million brackets
        raise BadRow(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadRow(f"not an object: {line[:40].decode(errors='replace').strip()}")
    return record
