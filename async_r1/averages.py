"""Averages over metric rows in which any value may be missing."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Row = Mapping[str, Any]


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the known values; None without any."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def ratio(value: float | None, by: float | None) -> float | None:
    """Quotient; None if either is unknown or the divisor is 0."""
    return value / by if value is not None and by else None


def weighted_mean(rows: Sequence[Row], name: str, weight: str) -> float | None:
    """Mean of a metric weighted by another; a row without the weight has the average one."""
    usual = mean_of(row.get(weight) for row in rows)
    usual = 1.0 if usual is None else usual
    pairs = [
        (float(row[name]), float(usual if row.get(weight) is None else row[weight]))
        for row in rows
        if row.get(name) is not None
    ]
    return ratio(sum(v * w for v, w in pairs), sum(w for _, w in pairs))


def time_weighted_mean(rows: Sequence[Row], name: str) -> float | None:
    """Mean over time of a metric whose value in a row describes the time since the row before."""
    times = [row.get("wall_s") or 0.0 for row in rows]
    spans = [max(0.0, after - before) for before, after in pairwise(times)]
    first = mean_of(spans) or 1.0
    timed = [{**row, "_span": span} for row, span in zip(rows, [first, *spans], strict=False)]
    return weighted_mean(timed, name, "_span")


def counter_total(rows: Sequence[Row], name: str) -> float | None:
    """Total of a counter that starts at 0 again whenever its process is restarted."""
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    if not values:
        return None
    return values[0] + sum(b - a if b >= a else b for a, b in pairwise(values))
