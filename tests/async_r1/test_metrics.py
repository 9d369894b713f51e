"""Metric rows: half lines are not rows yet, and numbers that are none become null."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from async_r1.metrics import MetricsWriter, RowTail, read_rows, summary


def test_rows_round_trip_with_seconds_since_the_start(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    writer = MetricsWriter(path, time.time() - 5)
    writer.write({"step": 1, "loss": np.float32(0.5), "n": np.int64(3), "flag": np.bool_(True)})
    writer.write({"step": 2, "name": "ä\u2028\n"})  # line separators stay inside the line
    first, second = read_rows(path)
    assert 5 <= first.pop("wall_s") < 60
    assert first == {"step": 1, "loss": 0.5, "n": 3, "flag": True}
    assert second["name"] == "ä\u2028\n"
    writer.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.inf])
def test_non_finite_numbers_become_null(tmp_path: Path, value: float) -> None:
    path = tmp_path / "m.jsonl"
    writer = MetricsWriter(path, 0.0)
    assert writer.write({"loss": value})["loss"] is None
    writer.close()
    (line,) = path.read_text().splitlines()
    row = json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert row["loss"] is None


def test_a_second_writer_appends(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for step in (1, 2):
        writer = MetricsWriter(path, 0.0)
        writer.write({"step": step})
        writer.close()
    assert [row["step"] for row in read_rows(path)] == [1, 2]


def test_every_prefix_of_a_file_reads_as_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    data = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(4))
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        expected = [{"step": step} for step in range(data[:size].count(b"\n"))]
        assert read_rows(path) == expected
        assert list(RowTail(path).read()) == expected


def test_tail_sees_every_row_once_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    tail = RowTail(path)
    assert list(tail.read()) == []  # no file yet
    data = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(30))
    seen, rng = [], np.random.default_rng(0)
    with path.open("ab", buffering=0) as file:
        while data:
            size = int(rng.integers(1, 20))
            file.write(data[:size])
            data = data[size:]
            seen += [row["step"] for row in tail.read()]
    assert seen == list(range(30))


def test_absent_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []


def test_summary() -> None:
    assert summary("x", []) == {}
    values = list(range(1, 12))
    assert summary("x", values) == {"x/mean": 6.0, "x/max": 11.0, "x/p90": 10.0}
