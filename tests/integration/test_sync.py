"""Sync mode: each version's batch is sampled by that version; runs repeat to the last digit."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import launch, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_TIMED = ("time/", "perf/", "wall_s", "learner/idle_frac", "actor/idle_frac", "actor/engine_frac")


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith(_TIMED)} for row in rows
    ]


def test_two_runs_give_the_same_metrics_to_the_last_digit(tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        run = launch(directory, "experiment=smoke", "staleness=sync", "seed=3")
        records.append({name: untimed(rows(run, name)) for name in ("learner", "eval")})
    assert len(records[0]["learner"]) == 4 and records[0]["eval"]
    assert records[0] == records[1]
    assert all(row["staleness/max"] == 0 for row in records[0]["learner"])
    assert all(row["logprob_diff/max"] < 1e-4 for row in records[0]["learner"])


def test_forced_staleness_is_exact(tmp_path: Path) -> None:
    run = launch(
        tmp_path, "experiment=smoke", "staleness=sync", "staleness.force=2", "eval.every=0"
    )
    learner = rows(run, "learner")
    seen = [(row["staleness/mean"], row["staleness/max"]) for row in learner]
    assert seen == [(0, 0), (1, 1), (2, 2), (2, 2)]
    assert all(row["staleness/bound"] == 2 for row in learner)
