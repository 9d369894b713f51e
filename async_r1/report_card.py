"""One rollout on the report's page; everything that a model wrote is escaped."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from async_r1.formatting import UNKNOWN
from async_r1.report_spans import Span, lease_counts, spans_of, version_counts
from async_r1.report_text import Decode, pieces

SHOWN_CHARS = 12_000  # of a text; beyond it the middle is left out
ACTORS_NAMED = 6
VERSIONS_NAMED = 24


def card(row: dict[str, Any], title: str, decode: Decode | None) -> str:
    """A rollout: its rewards, its versions, its prompt, and its text coloured by version.

    Args:
        title: what it is shown for; may be empty.
    """
    spans = spans_of(row)
    rewards = row.get("rewards") or {}
    terms = "".join(
        f"<span>{escape(str(name))} {_reward(value)}</span>"
        for name, value in rewards.items()
        if name not in ("total", "task")
    )
    return (
        f"<article>{f'<h4>{escape(title)}</h4>' if title else ''}"
        f'<p class="meta"><b>reward {_reward(rewards.get("total"))}</b>{terms}'
        f"<span>level {escape(str(row.get('level', '-')))}</span>"
        f"<span>{escape(str(row.get('num_tokens', '-')))} tokens</span></p>"
        f"{_error(row)}{_legend(spans)}"
        f'<pre class="prompt">{escape(str(row.get("prompt", "")).strip())}</pre>'
        f'<pre class="completion">{_text(row, spans, decode)}</pre>'
        f'<p class="words">{escape(_words(row, spans))}</p></article>'
    )


def shades(spans: Sequence[Span]) -> dict[int, int]:
    """Where each version stands between the rollout's oldest, 0, and its newest, 100."""
    found = [version for version, _ in version_counts(list(spans))]
    return {v: round(100 * i / max(1, len(found) - 1)) for i, v in enumerate(found)}


def _error(row: dict[str, Any]) -> str:
    error = row.get("error")
    return f'<p class="error">no reward: {escape(str(error))}</p>' if error else ""


def _legend(spans: list[Span]) -> str:
    """A bar of the tokens by version, which names versions and numbers of tokens."""
    counts, shade = version_counts(spans), shades(spans)
    named = "".join(
        f'<li class="v" style="--p:{shade[version]}%;flex-grow:{n}">v{version} <small>{n}</small>'
        "</li>"
        for version, n in counts[:VERSIONS_NAMED]
    )
    rest = len(counts) - VERSIONS_NAMED
    more = f"<li>and {rest} versions more</li>" if rest > 0 else ""
    return f'<ul class="bar" aria-label="tokens by policy version">{named}{more}</ul>'


def _text(row: dict[str, Any], spans: list[Span], decode: Decode | None) -> str:
    text, token_ids = str(row.get("text", "")), row.get("token_ids") or []
    parts = None
    if decode is not None and spans and len(token_ids) == spans[-1].end:
        parts = pieces(text, token_ids, [span.start for span in spans[1:]], decode)
    if parts is None:
        return "".join(_shortened(text, 0, len(text)))
    shade, html, start = shades(spans), [], 0
    for span, part in zip(spans, parts, strict=True):
        if span.resumed:
            html.append(f'<b class="resumed" title="{escape(_resumed(span, spans))}"></b>')
        inner = "".join(_shortened(part, start, len(text)))
        start += len(part)
        stopped = span is spans[-1] and not part and not row.get("truncated")
        if inner or stopped:
            kind = "v" + " swapped" * span.swapped + " stop" * stopped
            html.append(
                f'<span class="{kind}" style="--p:{shade[span.version]}%" '
                f'title="{escape(_title(span, spans))}">{inner}</span>'
            )
    return "".join(html)


def _shortened(part: str, start: int, total: int) -> Iterator[str]:
    """A part of a text as HTML, without what lies in the left out middle of the whole."""
    head, tail = SHOWN_CHARS // 2, total - SHOWN_CHARS // 2
    if total <= SHOWN_CHARS:
        yield escape(part)
        return
    yield escape(part[: max(0, head - start)])
    if start <= head < start + len(part):
        yield f'<i class="gap">{tail - head:,} characters left out</i>'
    yield escape(part[max(0, tail - start) :])


def _title(span: Span, spans: list[Span]) -> str:
    parts = [f"version {span.version}", f"tokens {span.start + 1} to {span.end} of {spans[-1].end}"]
    if span.lease is not None:
        parts.append(f"lease {span.lease + 1}, {span.actor}")
    if span.swapped:
        parts.append("weights changed here under a KV cache that was kept")
    return "; ".join(parts)


def _resumed(span: Span, spans: list[Span]) -> str:
    before = next(a for a, b in pairwise(spans) if b is span)
    waited = span.version - before.version
    return (
        f"suspended after token {span.start} by {before.actor} at version {before.version}; "
        f"continued by {span.actor} at version {span.version}"
        + (f", {waited} {'version' if waited == 1 else 'versions'} later" if waited else "")
    )


def _words(row: dict[str, Any], spans: list[Span]) -> str:
    """How the rollout was sampled and how it ended."""
    leases = lease_counts(spans)
    actors: dict[str, int] = {}
    for actor, n in leases:
        actors[actor] = actors.get(actor, 0) + n
    parts = []
    if leases:
        by = ", ".join(f"{actor} {n:,} tokens" for actor, n in list(actors.items())[:ACTORS_NAMED])
        more = f" and {len(actors) - ACTORS_NAMED} more" if len(actors) > ACTORS_NAMED else ""
        number = "one lease" if len(leases) == 1 else f"{len(leases)} leases"
        parts.append(f"{number}: {by}{more}" if len(actors) > 1 else f"{number}, {leases[0][0]}")
    swaps = sum(span.swapped for span in spans)
    if swaps:
        parts.append(f"{swaps} weight {'update' if swaps == 1 else 'updates'} under its KV cache")
    if row.get("truncated"):
        parts.append("cut at the length limit")
    return "; ".join(parts)


def _reward(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"
