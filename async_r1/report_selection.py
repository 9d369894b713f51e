"""What became of what was generated: tables by fate, by level and by length."""

from collections.abc import Sequence
from html import escape

from async_r1.averages import ratio
from async_r1.formatting import UNKNOWN, count, number, percent
from async_r1.rows import Row
from async_r1.view import RunView

_FATES = (
    ("trained", "trained"),
    ("masked for their age", "masked"),
    ("dropped: equal rewards", "dropped_zero_variance"),
    ("dropped: overdue", "dropped_overdue"),
    ("dropped: full buffer", "dropped_capacity"),
    ("dropped: too few rewards", "dropped_too_few"),
    ("failed to be scored", "failed"),
    ("expired with their group", "expired"),
)
_SHARES = (
    ("trained", ("trained",)),
    ("equal rewards", ("dropped_zero_variance",)),
    ("late", ("masked", "dropped_overdue", "expired")),
)


def selection_section(view: RunView) -> str:
    """The section as HTML; empty if no row tells."""
    rows = [row for row in view.streams.get("buffer", []) if row.get("selection/levels")]
    if not rows:
        return ""
    last = rows[-1]
    edges: list[int] = last["selection/length_edges"]
    levels = [f"level {level}" for level in last["selection/levels"]]
    lengths = [
        f"{count(low)} to {count(high - 1)}" if high - 1 > low else count(low)
        for low, high in zip(edges, [*edges[1:], _next_edge(edges[-1])], strict=True)
    ]
    return (
        '<section id="selection"><h2>What became of what was generated</h2><div class="tables">'
        f"<div>{_fates(last)}{_distances(last)}</div>"
        f"<div>{_shares(last, 'level', 'by_level', levels)}"
        f"{_shares(last, 'tokens', 'by_length', lengths)}</div></div></section>"
    )


def _fates(row: Row) -> str:
    generated = _total(row, "generated_tokens")
    body = _line("generated", _cells(row, "generated", generated))
    for title, fate in _FATES:
        if _total(row, f"{fate}_tokens"):
            body += _line(title, _cells(row, fate, generated))
    waiting = row.get("selection/waiting_rollouts")
    if waiting:
        body += _line("wait in the table", [count(waiting), *[UNKNOWN] * 3])
    return _table(("fate", "rollouts", "tokens", "share", "mean length"), body)


def _cells(row: Row, fate: str, generated: float) -> list[str]:
    tokens = _total(row, f"{fate}_tokens")
    return [
        count(_total(row, f"{fate}_rollouts")),
        count(tokens),
        percent(ratio(tokens, generated)),
        number(row.get(f"selection/{fate}_length/mean"), 1),
    ]


def _distances(row: Row) -> str:
    body = ""
    for title, what in (
        ("rollouts by length", "length"),
        ("tokens by length", "tokens"),
        ("by level", "level"),
    ):
        name = f"selection/ks_{what}"
        noise = "selection/ks_tokens_noise" if what == "tokens" else "selection/ks_noise"
        values = (row.get(f"{name}/with_variance"), row.get(noise), row.get(name))
        body += _line(title, [number(value) for value in values])
    heads = ("distance of trained and generated", "last", "chance", "with equal rewards")
    return _table(heads, body)


def _shares(row: Row, title: str, axis: str, names: Sequence[str]) -> str:
    """Of the tokens generated at each level, or in each bin: how many, and what share trained."""
    generated = _list(row, f"generated_tokens/{axis}", len(names))
    body = ""
    for i, name in enumerate(names):
        if not generated[i]:
            continue
        cells = [count(generated[i])]
        for _, fates in _SHARES:
            tokens = sum(_list(row, f"{fate}_tokens/{axis}", len(names))[i] for fate in fates)
            cells.append(percent(tokens / generated[i]))
        body += _line(name, cells)
    heads = (title, "generated tokens", *(share for share, _ in _SHARES))
    return _table(heads, body)


def _list(row: Row, name: str, length: int) -> list[float]:
    return row.get(f"selection/{name}") or [0] * length


def _total(row: Row, name: str) -> float:
    return sum(_list(row, f"{name}/by_length", 0))


def _next_edge(edge: int) -> int:
    """The edge that follows in half octaves, rounded up: 2, 3, 4, 6, 8, 12, 16, 23, 32."""
    i = 0
    while 2 ** (i / 2) <= edge:
        i += 1
    return -int(-(2 ** (i / 2)) // 1)


def _line(title: str, cells: Sequence[str]) -> str:
    whole = [cell.replace(" %", "\u00a0%") for cell in cells]  # a number stays with its sign
    return f"<tr><th>{escape(title)}</th>{''.join(f'<td>{cell}</td>' for cell in whole)}</tr>"


def _table(heads: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<table class="numeric"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
