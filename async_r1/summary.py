"""The numbers of a run as a whole: what the terminal shows at its end and the report on top."""

import os
from dataclasses import dataclass
from typing import TextIO

import rich.console
from rich import box
from rich.table import Table

from async_r1.averages import (
    counter_total,
    mean_of,
    ratio,
    time_weighted_mean,
    weighted_mean,
)
from async_r1.formatting import (
    UNKNOWN,
    arrow,
    compact,
    count,
    duration,
    number,
    percent,
    versions,
)
from async_r1.rows import Row, exceeding_bound, level_accuracies, position
from async_r1.run_dir import RunDir
from async_r1.view import RunView

END_STEPS = 5  # that make up the start and the end of a run
_STALENESS = ("staleness/max", "staleness/bound")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run in numbers; None where the rows do not tell."""

    state: str
    steps: int
    num_updates: int | None
    version: int
    wall_s: float
    first_eval: Row | None
    last_eval: Row | None
    best_eval: Row | None
    reward_first: float | None  # mean over the first END_STEPS steps
    reward_last: float | None
    length_first: float | None
    length_last: float | None
    tokens_sampled: float | None
    tokens_trained: float | None
    sampled_per_s: float | None  # over the time from the first batch request to the last row
    trained_per_s: float | None
    staleness_mean: float | None  # over trained tokens
    staleness_max: float | None
    staleness_bound: float | None
    over_bound: list[int]  # steps at which the bound was exceeded
    bound_unknown: int  # steps without both numbers
    three_versions_frac: float | None  # of trained rollouts
    actor_idle_frac: float | None
    learner_idle_frac: float | None
    zero_variance_frac: float | None  # of closed groups

    @property
    def bound_kept(self) -> bool | None:
        """Whether no step trained a token older than the bound; None if some step is unknown."""
        if self.over_bound:
            return False
        return True if self.steps and not self.bound_unknown else None


def summarize(view: RunView) -> Summary:
    """The summary of a run, finished or not."""
    steps = view.steps
    every = view.streams.get("learner", [])  # what a restore undid was trained all the same
    maxima = [row["staleness/max"] for row in every if row.get("staleness/max") is not None]
    bounds = [row["staleness/bound"] for row in every if row.get("staleness/bound") is not None]
    unchecked = [row for row in every if None in map(row.get, _STALENESS)]
    measured = [row for row in view.evals if row.get("eval/accuracy") is not None]
    sampled = [counter_total(rows, "tokens/sampled") for rows in view.actors.values()]
    tokens_sampled = sum(n for n in sampled if n is not None) if any(sampled) else None
    tokens_trained = view.latest("tokens")
    training_s = _training_s(view)
    groups = view.streams.get("buffer", [])  # counted anew in every row
    closed = sum(row.get("groups/closed") or 0 for row in groups)
    zero_variance = sum(row.get("groups/zero_variance") or 0 for row in groups)
    return Summary(
        state=view.status.get("state") or UNKNOWN,
        steps=view.step,
        num_updates=view.option("learner.num_updates"),
        version=view.version,
        wall_s=view.recorded_s,
        first_eval=measured[0] if measured else None,
        last_eval=measured[-1] if measured else None,
        best_eval=max(measured, key=lambda row: row["eval/accuracy"], default=None),
        reward_first=mean_of(row.get("reward/mean") for row in steps[:END_STEPS]),
        reward_last=mean_of(row.get("reward/mean") for row in steps[-END_STEPS:]),
        length_first=mean_of(row.get("completion_length/mean") for row in steps[:END_STEPS]),
        length_last=mean_of(row.get("completion_length/mean") for row in steps[-END_STEPS:]),
        tokens_sampled=tokens_sampled,
        tokens_trained=tokens_trained,
        sampled_per_s=ratio(tokens_sampled, training_s),
        trained_per_s=ratio(tokens_trained, training_s),
        staleness_mean=weighted_mean(every, "staleness/mean", "batch/num_tokens"),
        staleness_max=max(maxima, default=None),
        staleness_bound=max(bounds, default=view.option("staleness.eta")),
        over_bound=[position(row) for row in exceeding_bound(every)],
        bound_unknown=len(unchecked),
        three_versions_frac=weighted_mean(
            every, "versions_per_rollout/three_or_more_frac", "batch/num_rollouts"
        ),
        actor_idle_frac=mean_of(
            time_weighted_mean(rows, "actor/idle_frac") for rows in view.actors.values()
        ),
        learner_idle_frac=weighted_mean(steps, "learner/idle_frac", "time/step_s"),
        zero_variance_frac=ratio(zero_variance, closed),
    )


def lines(summary: Summary) -> list[tuple[str, str]]:
    """(name, text) of every number but the held-out accuracy."""
    s = summary
    of = f" of {count(s.num_updates)}" if s.num_updates else ""
    return [
        ("state", s.state),
        ("optimizer steps", f"{count(s.steps)}{of}, up to version {s.version}"),
        ("wall time", duration(s.wall_s)),
        ("reward", arrow(number(s.reward_first), number(s.reward_last))),
        (
            "completion length",
            f"{arrow(number(s.length_first, 1), number(s.length_last, 1))} tokens",
        ),
        ("tokens sampled", f"{compact(s.tokens_sampled)}, {count(s.sampled_per_s)} per second"),
        ("tokens trained", f"{compact(s.tokens_trained)}, {count(s.trained_per_s)} per second"),
        (
            "staleness",
            f"mean {number(s.staleness_mean, 2)}, max {count(s.staleness_max)}, "
            f"bound {count(s.staleness_bound)} versions",
        ),
        ("bound kept at every step", bound_text(s)),
        ("rollouts of 3 or more versions", percent(s.three_versions_frac)),
        ("actors idle", percent(s.actor_idle_frac)),
        ("learner idle", percent(s.learner_idle_frac)),
        ("zero-variance groups", percent(s.zero_variance_frac)),
    ]


def bound_text(summary: Summary) -> str:
    """`yes`, `no: …` with the steps, or `unknown: …`."""
    if summary.over_bound:
        first, n = summary.over_bound[0], len(summary.over_bound)
        return f"no: exceeded at {n} of {summary.steps} steps, first at step {first}"
    if summary.bound_kept:
        return "yes"
    return f"unknown: not recorded at {summary.bound_unknown or 'any'} steps"


def accuracy_rows(summary: Summary) -> list[tuple[str, list[float | None]]]:
    """Held-out accuracy at the first, last and best eval: overall, then by level."""
    evals = [summary.first_eval, summary.last_eval, summary.best_eval]
    levels = sorted({level for row in evals if row for level, _ in level_accuracies(row)})
    names = [("all levels", "eval/accuracy")]
    names += [(f"level {level}", f"eval/accuracy/level_{level}") for level in levels]
    return [(title, [row.get(name) if row else None for row in evals]) for title, name in names]


def print_summary(run_dir: RunDir | str | os.PathLike[str], stream: TextIO | None = None) -> None:
    """Print the summary of a run as a table.

    Args:
        stream: where to; standard output if None.
    """
    view = RunView(run_dir)
    summary = summarize(view)
    console = rich.console.Console(file=stream, highlight=False)
    if summary.first_eval:
        console.print(_accuracy_table(summary))
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, text in lines(summary):
        bad = name.startswith("bound") and summary.bound_kept is False
        table.add_row(name, text, style="red" if bad else None)
    console.print(table)
    if view.run_dir.report.exists():  # on a line of its own: a path cut in two cannot be opened
        console.print(f"report: {view.run_dir.report}", soft_wrap=True, markup=False)


def _accuracy_table(summary: Summary) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("held-out accuracy", style="dim")
    evals = {"first": summary.first_eval, "last": summary.last_eval, "best": summary.best_eval}
    for name, row in evals.items():
        table.add_column(f"{name} {versions(row)}", justify="right")
    for title, values in accuracy_rows(summary):
        table.add_row(title, *(number(value) for value in values))
    return table


def _training_s(view: RunView) -> float | None:
    rows = view.streams.get("learner", [])
    if not rows:
        return None
    began = (rows[0].get("wall_s") or 0.0) - (rows[0].get("time/step_s") or 0.0)
    return (rows[-1].get("wall_s") or 0.0) - began
