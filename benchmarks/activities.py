"""Where the cores' time of a run went, from its metric rows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runs import Run

from async_r1.run_dir import read_json

REST = "waiting and other"
ACTIVITIES = (
    "sampling",
    "training",
    "evaluating",
    "scoring",
    "loading weights",
    "publishing weights",
    "start and end",
    REST,
)


def core_seconds(run: Run, threads: Mapping[str, int] | None = None) -> dict[str, float]:
    """Core-seconds by activity, adding up to cores x wall-clock.

    An activity counts as many cores as its role has compute threads, for as long as it lasted;
    weights and scoring count one. An engine step samples for training and for evaluation at once,
    so its time is divided by their tokens. What is left is "waiting and other": cores that wait,
    messages, and what the buffer does, which shares them. The start ends with the first sampling,
    the end begins with the last optimizer step.

    Args:
        threads: of a kind of role (`actor`), where the launcher's word was overruled.
    """
    view = run.view
    given = {
        name: (threads or {}).get(name.partition("_")[0], count)
        for name, count in view.resolved["threads"].items()
    }
    cores = read_json(view.run_dir.environment)["cores"]
    began = first_sampling_s(run)
    spent = dict.fromkeys(ACTIVITIES, 0.0)
    eval_share = eval_token_share(view)
    for name, rows in view.actors.items():
        engine_s = total(rows, "time/engine_s")
        spent["sampling"] += engine_s * (1 - eval_share) * given[name]
        spent["evaluating"] += engine_s * eval_share * given[name]
        spent["scoring"] += total(rows, "time/score_s")
        spent["loading weights"] += total(rows, "time/update_s")
    spent["training"] = total(view.steps, "time/train_s") * given["learner_000"]
    spent["publishing weights"] = total(view.steps, "time/publish_s")
    spent["start and end"] = cores * (began + view.recorded_s - view.steps[-1]["wall_s"])
    spent[REST] = max(0.0, cores * view.recorded_s - sum(spent.values()))
    return spent


def first_sampling_s(run: Run) -> float:
    """Seconds from the launch until the first actor could sample."""
    return min(s for role, s in run.costs.running_s.items() if role.startswith("actor"))


def timed_checkpoints(run: Run) -> list[tuple[int, float, Path]]:
    """Versions that a run kept, with the seconds from the first sampling to each: (v, s, path)."""
    began = first_sampling_s(run)
    at_s = {row["policy_version"] + 1: row["wall_s"] - began for row in run.view.steps}
    folders = run.view.run_dir.checkpoints.glob("version_*")
    found = sorted((int(folder.name.rpartition("_")[2]), folder / "hf") for folder in folders)
    return [(version, at_s[version], path) for version, path in found]


def eval_token_share(view: Any) -> float:
    """Of the tokens that the engines sampled, the share that only evaluates."""
    sampled = sum(max(row["tokens/sampled"] for row in rows) for rows in view.actors.values())
    evaluated = sum(
        row["eval/completion_length/mean"] * row["eval/num_prompts"] for row in view.evals
    )
    return float(min(1.0, evaluated / max(1, sampled)))


def total(rows: Iterable[dict[str, Any]], name: str) -> float:
    """The sum of a metric over rows."""
    return float(sum(row.get(name) or 0.0 for row in rows))
