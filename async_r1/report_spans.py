"""The runs of a rollout's tokens that have one policy version, one lease and one KV cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Span:
    """Tokens [start, end) of a rollout.

    Attributes:
        lease: index of the lease that sampled them, from 0; None where none is recorded.
        actor: who held it; empty where none is recorded.
        resumed: whether another lease ended at `start`.
        swapped: whether weights changed at `start` under a KV cache that was kept.
    """

    start: int
    end: int
    version: int
    lease: int | None = None
    actor: str = ""
    resumed: bool = False
    swapped: bool = False


def spans_of(row: Mapping[str, Any]) -> list[Span]:
    """The spans of a recorded rollout, in order; together they hold every token once."""
    versions = _runs(row.get("versions"))
    leases = _runs(row.get("leases"))
    swaps = {int(swap) for swap in row.get("swaps") or []}
    total = versions[-1][1] if versions else 0
    edges = {0, total, *swaps}
    edges |= {start for start, _, _ in versions} | {start for start, _, _ in leases}
    spans = []
    for start, end in pairwise(sorted(edge for edge in edges if 0 <= edge <= total)):
        (version,) = [value for a, b, value in versions if a <= start < b]
        lease = next((i for i, (a, b, _) in enumerate(leases) if a <= start < b), None)
        spans.append(
            Span(
                start=start,
                end=end,
                version=int(version),
                lease=lease,
                actor="" if lease is None else str(leases[lease][2]),
                resumed=bool(lease) and leases[lease or 0][0] == start,
                swapped=start in swaps,
            )
        )
    return spans


def version_counts(spans: list[Span]) -> list[tuple[int, int]]:
    """(version, tokens), oldest version first."""
    counts: dict[int, int] = {}
    for span in spans:
        counts[span.version] = counts.get(span.version, 0) + span.end - span.start
    return sorted(counts.items())


def lease_counts(spans: list[Span]) -> list[tuple[str, int]]:
    """(actor, tokens) of each lease, in order; empty if none is recorded."""
    counts: dict[int, tuple[str, int]] = {}
    for span in spans:
        if span.lease is not None:
            before = counts.get(span.lease, ("", 0))[1]
            counts[span.lease] = (span.actor, before + span.end - span.start)
    return list(counts.values())


def _runs(pairs: Any) -> list[tuple[int, int, Any]]:
    """(start, end, value) of run lengths given as [value, length]."""
    pairs = pairs or []
    ends = accumulate(int(n) for _, n in pairs)
    return [(end - int(n), end, value) for (value, n), end in zip(pairs, ends, strict=True)]
