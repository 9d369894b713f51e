"""Metric rows: one JSON object per step or tick and role, appended to a JSONL file.

Rows are the single source of every plot, panel and tracker. Names follow
`subject/quantity[/stat]`; seconds end in `_s`, ratios in `_frac`. Every row carries the x-axes
`step`, `policy_version` and `wall_s` (seconds since the run started).
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class MetricsWriter:
    """Appends rows to one file, a line at a time, so that a reader never sees half a row."""

    def __init__(self, path: Path, started_at: float) -> None:
        """`started_at`: time.time() at the start of the run."""
        self._file = path.open("a", buffering=1)
        self._started_at = started_at

    def write(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Append `row` with `wall_s` added; non-finite numbers become null."""
        full = {"wall_s": round(time.time() - self._started_at, 3), **row}
        full = {name: _plain(value) for name, value in full.items()}
        self._file.write(json.dumps(full) + "\n")
        return full

    def close(self) -> None:
        self._file.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All complete rows of a file; an absent file has none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if _whole(line)]


class RowTail:
    """Follows a growing file: each call returns the rows that were completed since the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open() as file:
            file.seek(self._position)
            for line in iter(file.readline, ""):
                if not _whole(line):
                    break
                self._position += len(line.encode())
                yield json.loads(line)


def summary(name: str, values: ArrayLike) -> dict[str, float]:
    """`name/mean`, `name/max` and `name/p90` of an array; empty gives no entries."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return {}
    return {
        f"{name}/mean": float(array.mean()),
        f"{name}/max": float(array.max()),
        f"{name}/p90": float(np.quantile(array, 0.9)),
    }


def _whole(line: str) -> bool:
    return line.endswith("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
