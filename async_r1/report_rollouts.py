"""The rollouts that a report shows as text: telling ones, and how they changed over the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from async_r1.report_card import card
from async_r1.report_spans import lease_counts, spans_of, version_counts
from async_r1.report_text import Decode, decoder
from async_r1.view import RunView

STEPS_READ = 64  # from which the telling ones are chosen, first and last among them
STEPS_SHOWN = 4
PER_STEP = 2  # best ones, and as many worst ones, of different prompts where possible


class Kept(NamedTuple):
    """A recorded rollout and the step it was drawn at."""

    step: int
    row: dict[str, Any]


def rollouts_section(view: RunView) -> str:
    """The section as HTML."""
    paths = sorted(view.run_dir.rollouts.glob("step_*.jsonl"))
    if not paths:
        return '<section id="rollouts"><h2>Rollouts</h2><p>No rollout was kept.</p></section>'
    decode = decoder(view)
    kept = [Kept(_step_of(path), row) for path in spread(paths, STEPS_READ) for row in _read(path)]
    cards = "".join(
        card(item.row, f"{', '.join(reasons)} (step {item.step})", decode)
        for item, reasons in telling(kept)
    )
    steps = "".join(_step(path, decode) for path in spread(paths, STEPS_SHOWN))
    return (
        f'<section id="rollouts"><h2>Rollouts</h2>{_key(decode)}<div class="columns">{cards}</div>'
        f"<h3>Best and worst over the run</h3>{steps}</section>"
    )


def telling(kept: list[Kept]) -> list[tuple[Kept, list[str]]]:
    """Rollouts worth reading with the reasons: the last step's best and worst, and of all steps
    the one with the most versions, the one suspended most often, the longest, and the last one
    whose reward failed.

    Of equals, the one with more versions, more leases, more tokens, and the later one.
    """
    last = [item for item in kept if item.step == kept[-1].step] if kept else []
    candidates: list[tuple[str, list[Kept], Callable[[Kept], float], float]] = [
        ("best", [k for k in last if "best" in _reasons(k)], _total, float("-inf")),
        ("worst", [k for k in last if "worst" in _reasons(k)], lambda k: -_total(k), float("-inf")),
        ("most versions", kept, _num_versions, 2),
        ("suspended most often", kept, _num_leases, 2),
        ("longest", kept, _num_tokens, 1),
        ("its reward failed", [k for k in kept if k.row.get("error")], lambda k: k.step, 0),
    ]
    found: dict[tuple[int, Any], tuple[Kept, list[str]]] = {}
    for reason, items, key, least in candidates:
        if items:
            chosen = max(items, key=lambda k: (key(k), *(f(k) for f in _TIES), k.step))
            if key(chosen) >= least:
                identity = (chosen.step, chosen.row.get("rollout_id"))
                found.setdefault(identity, (chosen, []))[1].append(reason)
    return list(found.values())


def spread(items: list[Path], most: int) -> list[Path]:
    """At most `most` items at even distances, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _key(decode: Decode | None) -> str:
    if decode is None:
        return (
            '<p class="note">The tokenizer of the run is not at hand, so texts are not coloured '
            "by version; the bars are.</p>"
        )
    return (
        '<p class="note">The colour of a text is the policy version that sampled it, from the '
        'rollout\'s <span class="v" style="--p:0%">oldest</span> to its '
        '<span class="v" style="--p:100%">newest</span>. <b class="resumed"></b> stands where a '
        "lease ended and another one continued the rollout, "
        '<span class="v swapped" style="--p:50%">a dotted edge</span> where weights changed under '
        "a KV cache that was kept, "
        '<span class="v stop" style="--p:100%"></span> where the last version sampled no more '
        "than the stop token. Point at a text for its tokens, lease and actor.</p>"
    )


def _step(path: Path, decode: Decode | None) -> str:
    rows = _read(path)
    cells = ""
    for name in ("best", "worst"):
        chosen = _of_different_prompts([row for row in rows if name in (row.get("kept") or [])])
        cells += f"<div><h4>{name}</h4>{''.join(card(row, '', decode) for row in chosen)}</div>"
    return (
        f"<details><summary>step {_step_of(path)}</summary>"
        f'<div class="columns">{cells}</div></details>'
    )


def _of_different_prompts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first PER_STEP rows by prompt; others fill up."""
    firsts = list({str(row.get("prompt_id")): row for row in reversed(rows)}.values())[::-1]
    others = [row for row in rows if row not in firsts]
    return sorted((firsts + others)[:PER_STEP], key=rows.index)


def _total(kept: Kept) -> float:
    value = (kept.row.get("rewards") or {}).get("total")
    return float("-inf") if value is None else float(value)


def _num_versions(kept: Kept) -> int:
    return len(version_counts(spans_of(kept.row)))


def _num_leases(kept: Kept) -> int:
    return len(lease_counts(spans_of(kept.row)))


def _num_tokens(kept: Kept) -> int:
    return sum(n for _, n in version_counts(spans_of(kept.row)))


_TIES = (_num_versions, _num_leases, _num_tokens)


def _reasons(kept: Kept) -> list[str]:
    return kept.row.get("kept") or []


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


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
