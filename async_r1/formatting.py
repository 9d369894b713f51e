"""Numbers as people read them; an unknown value is a dash."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

UNKNOWN = "-"
_BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None, digits: int = 3) -> str:
    """`0.712`; fixed decimals, so that a column aligns."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def count(value: float | None) -> str:
    """`12,345`."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """`12,345`, `1.23 M`, `4.56 G`."""
    if value is None or value < 1e6:
        return count(value)
    return f"{value / 1e6:.2f} M" if value < 1e9 else f"{value / 1e9:.2f} G"


def percent(value: float | None) -> str:
    """`12 %` of a fraction; one decimal below 10 %, where acceptance limits lie."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.1f} %" if 0 < value < 0.0995 else f"{100 * value:.0f} %"


def significant(value: float | None, digits: int = 3) -> str:
    """`0.00123`, `1.2e-07`, `12,345`: for quantities of unknown magnitude; integers in full."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return count(value)
    return f"{value:#.{digits}g}"


def duration(seconds: float | None) -> str:
    """`45 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def versions(row: dict[str, Any] | None) -> str:
    """`v12`, or `v12-13` of an eval that spanned a weight update."""
    if row is None or row.get("policy_version") is None:
        return UNKNOWN
    low, high = row["policy_version"], row.get("policy_version_max")
    return f"v{low}" if high is None or high == low else f"v{low}-{high}"


def plural(noun: str, number_of: object) -> str:
    """`step` of 1, `steps` of any other number."""
    return noun if number_of == 1 else f"{noun}s"


def arrow(first: str, last: str) -> str:
    """`0.10 → 0.85`; one of them when they are equal."""
    return first if first == last else f"{first} → {last}"


def sparkline(
    values: Sequence[float | None], width: int, low: float | None = None, high: float | None = None
) -> str:
    """`▁▂▄▆█`, at most `width` characters; values that share a character are averaged.

    The scale runs from `low` to `high`, by default the smallest and largest value drawn; an
    unknown value is a space.
    """
    cells = min(width, len(values))
    edges = [round(i * len(values) / cells) for i in range(cells + 1)] if cells else [0]
    means = [_mean(values[start:end]) for start, end in pairwise(edges)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    low = min(known) if low is None else low
    high = max(known) if high is None else high
    return "".join(" " if mean is None else _bar(mean, low, high) for mean in means)


def _bar(value: float, low: float, high: float) -> str:
    if high <= low:
        return _BARS[len(_BARS) // 2]
    index = int((value - low) / (high - low) * len(_BARS))
    return _BARS[min(max(index, 0), len(_BARS) - 1)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
