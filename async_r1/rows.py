"""What a metric row means beyond its plain values."""

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def position(row: Row) -> int:
    """The optimizer step of a learner row."""
    return int(row.get("step") or 0)


def version_of(row: Row) -> int:
    """The policy version of a row; 0 if it has none."""
    return int(row.get("policy_version") or 0)


def exceeding_bound(rows: Iterable[Row]) -> list[Row]:
    """The learner rows in which a token older than the bound was trained."""
    return [
        row
        for row in rows
        if None not in (row.get("staleness/max"), row.get("staleness/bound"))
        and row["staleness/max"] > row["staleness/bound"]
    ]


def level_accuracies(row: Row) -> list[tuple[int, float | None]]:
    """(level, held-out accuracy) of an eval row, lowest level first."""
    prefix = "eval/accuracy/level_"
    names = [name for name in row if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    return sorted((int(name[len(prefix) :]), row[name]) for name in names)
