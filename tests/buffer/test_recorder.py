"""Best and worst rollouts of a draw, as rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_r1.run_dir import RunDir
from buffer.recorder import record_extremes
from tests.buffer.fakes import closed_group


def rows_of(path: Path, count: int) -> list[dict[str, Any]]:
    run_dir = RunDir.create(path)
    groups = [
        closed_group(0, [0.5, 0.1], versions=[[1, 1, 2], [0, 0, 0]]),
        closed_group(1, [0.9, 0.3, 0.0]),
    ]
    record_extremes(run_dir, 7, groups, count)
    lines = run_dir.rollouts_file(7).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_best_and_worst(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 2)
    assert [(row["rewards"]["total"], row["best"]) for row in rows] == [
        (0.9, True),
        (0.5, True),
        (0.1, False),
        (0.0, False),
    ]
    assert rows[1] == {
        "rollout_id": 0,
        "prompt_id": "train/0",
        "level": 1,
        "prompt": "0=?",
        "text": "text of 0",
        "rewards": {"total": 0.5, "task": 0.5},
        "num_tokens": 3,
        "versions": [[1, 2], [2, 1]],
        "truncated": False,
        "best": True,
    }


@pytest.mark.parametrize(("count", "best", "worst"), [(0, 0, 0), (3, 3, 2), (5, 5, 0), (9, 5, 0)])
def test_no_rollout_is_both(tmp_path: Path, count: int, best: int, worst: int) -> None:
    rows = rows_of(tmp_path, count)
    assert sum(row["best"] for row in rows) == best
    assert sum(not row["best"] for row in rows) == worst
    assert len({row["rollout_id"] for row in rows}) == len(rows)
