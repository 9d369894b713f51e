"""The results of `async_r1 eval` as text."""

from collections.abc import Iterable, Sequence
from typing import Any

from async_r1.formatting import UNKNOWN, number, percent

_MOST_WORDS = 5


def eval_table(results: dict[str, Any]) -> str:
    """What is printed; `results` as `eval_results.results` makes them."""
    ks = list(results["overall"].get("pass@k", {}))
    has_greedy = "greedy" in results["overall"]
    head = ["level", "prompts", *["greedy"] * has_greedy, *(f"pass@{k}" for k in ks)]
    parts = {**results["levels"], "all": results["overall"]}
    rows = [
        [
            name,
            str(part["prompts"]),
            *([_interval(part.get("greedy"))] * has_greedy),
            *(_interval(part.get("pass@k", {}).get(k)) for k in ks),
        ]
        for name, part in parts.items()
    ]
    lines = [
        f"{results['model']} on {results['task']}, intervals at {results['confidence']:.0%}",
        "",
        *columns([head, *rows]),
        "",
        *_completions(results["completions"]),
    ]
    if results["not_scored"]:
        lines += ["", f"not scored, and counted as wrong: {results['not_scored']}"]
    return "\n".join(lines)


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Cells aligned, the first column to the left."""
    table = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _completions(kinds: dict[str, Any]) -> list[str]:
    head = ["completions", "", "count", "tokens", "median", "p95", "cut", "reflect", "words each"]
    rows = []
    notes = []
    for kind, part in kinds.items():
        for name, length in part["length"].items():
            found = part["reflection"][name]
            rows.append(
                [
                    kind,
                    name,
                    f"{length['count']:,}",
                    number(length["mean"], 1),
                    number(length["median"], 0),
                    number(length["p95"], 0),
                    percent(length["truncated"]),
                    percent(found["share"]),
                    number(found["per_text"], 2),
                ]
            )
        notes.append(f"{kind}: {percent(part['well_formed'])} well-formed, {_words(part)}")
    return [*columns([head, *rows]), "", *notes]


def _words(part: dict[str, Any]) -> str:
    found = part["reflection"]["all"]["words"]
    seen = sorted(
        ((entry["share"], word) for word, entry in found.items() if entry["share"]), reverse=True
    )
    if not seen:
        return "no reflective word"
    return "with " + ", ".join(f"{word} {percent(share)}" for share, word in seen[:_MOST_WORDS])


def _interval(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return UNKNOWN
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
