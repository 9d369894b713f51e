"""Spans against arrays with one element per token."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from async_r1.report_spans import lease_counts, spans_of, version_counts


def lengths(values: list[int]) -> list[list[object]]:
    return [[value, len(list(run))] for value, run in groupby(values)]


@given(st.data())
def test_spans_are_the_tokens(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 30))
    versions = sorted(data.draw(st.lists(st.integers(0, 6), min_size=total, max_size=total)))
    ends = sorted({*data.draw(st.lists(st.integers(1, total), max_size=4)), total})
    starts = [0, *ends][:-1]
    actors = data.draw(st.lists(st.sampled_from("ab"), min_size=len(ends), max_size=len(ends)))
    leases = [[actor, b - a] for actor, a, b in zip(actors, starts, ends, strict=True)]
    swaps = data.draw(st.lists(st.integers(0, total - 1), max_size=3))
    row = {"versions": lengths(versions), "leases": leases, "swaps": swaps}
    spans = spans_of(row)

    held = [i for i, (_, n) in enumerate(leases) for _ in range(n)]
    tokens = [(v, lease, actors[lease]) for v, lease in zip(versions, held, strict=True)]
    expanded = [
        (span.version, span.lease, span.actor)
        for span in spans
        for _ in range(span.start, span.end)
    ]
    assert expanded == tokens
    assert [span.start for span in spans] == sorted(
        i for i in range(total) if i == 0 or tokens[i] != tokens[i - 1] or i in swaps
    )
    assert {span.start for span in spans if span.swapped} == set(swaps)
    assert [span.start for span in spans if span.resumed] == starts[1:]
    assert version_counts(spans) == [(v, versions.count(v)) for v in sorted(set(versions))]
    assert [list(pair) for pair in lease_counts(spans)] == leases


def test_rows_that_lack_something() -> None:
    assert spans_of({}) == []
    (span,) = spans_of({"versions": [[4, 3], [4, 2]][:1]})
    assert (span.start, span.end, span.version, span.lease, span.actor) == (0, 3, 4, None, "")
    assert lease_counts([span]) == []
