"""The rollouts that a report shows as text: the best and the worst of a few steps of the run."""

import json
import re
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from async_r1.formatting import UNKNOWN
from async_r1.view import RunView

STEPS_SHOWN = 4  # first and last among them
PER_STEP = 3  # best ones, and as many worst ones

_TAG = re.compile(r"&lt;/?(?:think|answer)&gt;")


def rollouts_section(view: RunView) -> str:
    """The section as HTML; everything that a model wrote is escaped."""
    paths = sorted(view.run_dir.rollouts.glob("step_*.jsonl"))
    body = "".join(_step(path) for path in spread(paths, STEPS_SHOWN))
    return (
        f'<section id="rollouts"><h2>Rollouts</h2>{body or "<p>No rollout was kept.</p>"}</section>'
    )


def spread(items: list[Path], most: int) -> list[Path]:
    """At most `most` items at even distances, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _step(path: Path) -> str:
    rows = _read(path)
    columns = [
        (name, [row for row in rows if bool(row.get("best")) is best][:PER_STEP])
        for name, best in (("best", True), ("worst", False))
    ]
    step = int(path.stem.removeprefix("step_"))
    cells = "".join(
        f"<div><h4>{name}</h4>{''.join(_card(row) for row in chosen)}</div>"
        for name, chosen in columns
    )
    return f'<h3>step {step}</h3><div class="columns">{cells}</div>'


def _card(row: dict[str, Any]) -> str:
    rewards = row.get("rewards") or {}
    terms = "".join(
        f"<span>{escape(str(name))} {_reward(value)}</span>"
        for name, value in rewards.items()
        if name not in ("total", "task")
    )
    text = _TAG.sub(r"<i>\g<0></i>", escape(str(row.get("text", ""))))
    return (
        '<article><p class="meta">'
        f"<b>reward {_reward(rewards.get('total'))}</b>{terms}"
        f"<span>level {escape(str(row.get('level', '-')))}</span>"
        f"<span>{escape(str(row.get('num_tokens', '-')))} tokens</span></p>"
        f"<pre><u>{escape(str(row.get('prompt', '')))}</u>{text}</pre>"
        f"{_versions(row.get('versions') or [])}</article>"
    )


def _reward(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"


def _versions(spans: list[list[int]]) -> str:
    """A bar of the tokens by the policy version that sampled them, and the same in words."""
    merged = [(v, sum(n for _, n in run)) for v, run in groupby(spans, lambda span: int(span[0]))]
    if not merged:
        return ""
    oldest = min(version for version, _ in merged)
    bar = "".join(
        f'<span style="flex-grow:{n};opacity:{1 / (1 + 0.7 * (version - oldest)):.2f}"></span>'
        for version, n in merged
    )
    words = "tokens: " + ", ".join(f"{n} of v{version}" for version, n in merged)
    return f'<div class="spans" aria-hidden="true">{bar}</div><p class="words">{words}</p>'


def _read(path: Path) -> list[dict[str, Any]]:
    """Complete rows of a file; a line cut short by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
