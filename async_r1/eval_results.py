"""What the completions of `async_r1 eval` say: accuracy, pass@k, lengths, reflection."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.pass_at_k import bootstrap_mean, pass_at_k, wilson
from async_r1.reflection import reflection

Row = Mapping[str, Any]  # as in `offline_items.SampleLog`


def results(config: Config, rows: Sequence[Row]) -> dict[str, Any]:
    """The contents of eval.json; the same for the same rows, whatever their order.

    Example: `results["overall"]["pass@k"]["4"] == {"value": 0.7, "low": 0.6, "high": 0.8}`.
    """
    rows = sorted(rows, key=lambda row: (row["prompt_id"], row["kind"], row["index"]))
    kinds = sorted({row["kind"] for row in rows})
    levels = sorted({row["level"] for row in rows})
    return {
        "model": config.model.path,
        "task": config.task.name,
        "template": config.task.template,
        "max_new_tokens": config.task.max_new_tokens,
        "seed": config.seed,
        "samples": config.evaluate.samples,
        "temperature": config.evaluate.temperature,
        "confidence": config.evaluate.confidence,
        "not_scored": sum(bool(row["error"]) for row in rows),
        "overall": _accuracy(config, rows),
        "levels": {
            str(level): _accuracy(config, [row for row in rows if row["level"] == level])
            for level in levels
        },
        "completions": {
            kind: _completions(config, [row for row in rows if row["kind"] == kind])
            for kind in kinds
        },
    }


def _accuracy(config: Config, rows: Iterable[Row]) -> dict[str, Any]:
    options = config.evaluate
    right: dict[str, list[bool]] = defaultdict(list)
    greedy: list[bool] = []
    prompts = set()
    for row in rows:
        prompts.add(row["prompt_id"])
        if row["kind"] == "greedy":
            greedy.append(row["correct"])
        else:
            right[row["prompt_id"]].append(row["correct"])
    found: dict[str, Any] = {"prompts": len(prompts)}
    if greedy:
        found["greedy"] = wilson(sum(greedy), len(greedy), options.confidence).to_dict()
    if right:
        found["pass@k"] = {
            str(k): bootstrap_mean(
                [pass_at_k(len(one), sum(one), k) for one in right.values()],
                options.confidence,
                config.seed,
            ).to_dict()
            for k in sorted(set(options.k))
        }
    return found


def _completions(config: Config, rows: Sequence[Row]) -> dict[str, Any]:
    parts = {
        "all": rows,
        "correct": [row for row in rows if row["correct"]],
        "wrong": [row for row in rows if not row["correct"]],
    }
    form = [row["rewards"]["format"] for row in rows if "format" in row["rewards"]]
    return {
        "well_formed": float(np.mean(form)) if form else None,
        "length": {name: lengths(part) for name, part in parts.items()},
        "reflection": {
            name: reflection([row["text"] for row in part], config.evaluate.reflection_words)
            for name, part in parts.items()
        },
    }


def lengths(rows: Sequence[Row]) -> dict[str, float | None]:
    """Tokens of completions: `count, mean, median, p95`, and the `truncated` share."""
    if not rows:
        return {"count": 0, "mean": None, "median": None, "p95": None, "truncated": None}
    tokens = np.array([row["num_tokens"] for row in rows], dtype=np.float64)
    return {
        "count": len(rows),
        "mean": float(tokens.mean()),
        "median": float(np.median(tokens)),
        "p95": float(np.quantile(tokens, 0.95)),
        "truncated": float(np.mean([row["truncated"] for row in rows])),
    }
