"""Tables of a journal as text: aligned columns, and one rollout in full."""

from typing import Any

from async_r1.formatting import UNKNOWN, count, plural
from async_r1.journal_tables import Filter, Row, Tables, columns

_MAX_CELL = 40  # characters
_TOO_WIDE = {"text", "rewards", "num_prompt_tokens", "num_segments"}  # --json has them


def table_text(table: str, rows: list[Row], limit: int) -> str:
    """The last `limit` rows (0: all), columns aligned."""
    shown = rows[-limit:] if limit else rows
    names = [name for name in columns(table) if name not in _TOO_WIDE]
    cells = [[_cell(row[name]) for name in names] for row in shown]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(names)]
    right = [any(isinstance(row[name], int | float) for row in shown) for name in names]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [names, *cells]
    ]
    hidden = len(rows) - len(shown)
    if hidden:
        lines.append(f"{count(hidden)} {plural('row', hidden)} before these; --limit 0 shows all")
    return "\n".join(lines)


def rollout_text(tables: Tables, wanted: Filter) -> str:
    """Everything about the rollout of a filter: its life, its leases, its trainings, its text."""
    rows = list(tables.rows("rollouts", wanted))
    if not rows:
        return f"there is no rollout {wanted.rollout_id}"
    (row,) = rows
    lines = [f"{name:18} {_cell(value, 200)}" for name, value in row.items() if name != "text"]
    for table in ("leases", "spans", "trained"):
        found = list(tables.rows(table, Filter(rollout_id=wanted.rollout_id)))
        if found:
            lines += ["", table, table_text(table, found, 0)]
    if row["text"]:
        lines += ["", "text", row["text"]]
    return "\n".join(lines)


def _cell(value: Any, width: int = _MAX_CELL) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_cell(item)}" for name, item in value.items())
    text = " ".join(str(value).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
