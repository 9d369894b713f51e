"""What in a run's rows asks for a look; each says what was seen and what it may mean."""

from collections.abc import Callable

from async_r1.averages import mean_of, ratio
from async_r1.formatting import count, number, percent, plural, significant, versions
from async_r1.pass_at_k import wilson
from async_r1.rows import Row, position
from async_r1.summary import END_STEPS, Summary
from async_r1.view import SMOOTHING_STEPS, RunView

ENTROPY_LEFT_FRAC = 0.2  # of that of the first steps
ESS_LOW = 0.5
ZERO_VARIANCE_HIGH = 0.5
TRUNCATED_HIGH = 0.1


def warnings(view: RunView, summary: Summary) -> list[str]:
    """The warnings of a run, the gravest first; empty if there is nothing to say."""
    found = [
        over_bound(summary),
        accuracy_fell(summary),
        rewards_failed(view),
        entropy_fell(view),
        ess_low(view),
        no_variance(view),
        selection_biased(view),
        truncated(view),
        rejected(view),
        unreadable(view),
    ]
    return [text for text in found if text]


def over_bound(s: Summary) -> str:
    if not s.over_bound:
        return ""
    return (
        f"The staleness bound was exceeded at {len(s.over_bound)} of {s.steps} steps, first at "
        f"step {s.over_bound[0]}."
    )


def accuracy_fell(s: Summary) -> str:
    """The last eval lies below the best one by more than both intervals."""
    best, last = s.best_eval, s.last_eval
    if best is None or last is None or interval(last)[1] >= interval(best)[0]:
        return ""
    return (
        f"Held-out accuracy ended below its best: {number(last['eval/accuracy'])} at "
        f"{versions(last)} after {number(best['eval/accuracy'])} at {versions(best)}."
    )


def rewards_failed(view: RunView) -> str:
    total = _counted(view, "reward/errors")
    if not total:
        return ""
    late = _counted(view, "reward/timeouts")
    return (
        f"The reward of {count(total)} {plural('rollout', total)} failed, {count(late)} of them by "
        "its time limit; logs/buffer.log has the first of each kind."
    )


def entropy_fell(view: RunView) -> str:
    if len(view.steps) <= END_STEPS:
        return ""
    first, last = (_mean(rows, "entropy/mean") for rows in _ends(view))
    if first is None or last is None or last >= ENTROPY_LEFT_FRAC * first:
        return ""
    return (
        f"Entropy fell from {significant(first)} to {significant(last)} nats per token: the "
        "rollouts of a group become alike, and what is alike teaches nothing more."
    )


def ess_low(view: RunView) -> str:
    low = _where(view, "ratio/ess", lambda value: value < ESS_LOW)
    if not low:
        return ""
    least = min(low, key=lambda row: float(row["ratio/ess"]))
    return (
        f"The effective sample size was below {ESS_LOW} at {len(low)} of {len(view.steps)} steps, "
        f"lowest {number(least['ratio/ess'], 2)} at step {position(least)}: few tokens carried "
        "these updates. A lower staleness.eta or learner.lr usually raises it."
    )


def no_variance(view: RunView) -> str:
    rows = view.streams.get("buffer", [])[-SMOOTHING_STEPS:]
    zero = sum(row.get("groups/zero_variance") or 0 for row in rows)
    closed = sum(row.get("groups/closed") or 0 for row in rows)
    share = ratio(zero, closed)
    if share is None or share <= ZERO_VARIANCE_HIGH:
        return ""
    return (
        f"In the last {len(rows)} versions {percent(share)} of the closed groups had equal "
        "rewards throughout: most prompts were too easy or too hard for the policy."
    )


def selection_biased(view: RunView) -> str:
    """What trained differs from what was generated, by more than chance and the threshold."""
    every = view.streams.get("buffer", [])
    rows = [row for row in every if row.get("selection/biased")]
    if not rows:
        return ""
    value, name, row = max(
        (row[name], name, row)
        for row in rows
        for name in row
        if name.startswith("selection/ks_") and name.endswith("/with_variance")
    )
    limit = view.option("buffer.selection_ks_warn")
    return (
        f"What trained differed from what was generated at {len(rows)} of {len(every)} "
        f"versions, by {number(value)} at most ({name} at {versions(row)}; the threshold is "
        f"{limit}): see the table of fates below, and docs/selection.md."
    )


def truncated(view: RunView) -> str:
    share = _mean(_ends(view)[1], "completion_length/clip_frac")
    if share is None or share <= TRUNCATED_HIGH:
        return ""
    return (
        f"{percent(share)} of the rollouts of the last {min(END_STEPS, len(view.steps))} steps "
        f"were cut at the length limit (task.max_new_tokens={view.option('task.max_new_tokens')})."
    )


def rejected(view: RunView) -> str:
    total = _counted(view, "wire/rejected")
    if not total:
        return ""
    return f"The buffer rejected {count(total)} malformed messages; logs/buffer.log has them."


def unreadable(view: RunView) -> str:
    if not view.damaged_lines:
        return ""
    return f"{count(view.damaged_lines)} lines of the metric files could not be read."


def interval(row: Row) -> tuple[float, float]:
    """The 95 % interval of an eval's accuracy (Wilson 1927), or from its recorded half width."""
    value, prompts = row["eval/accuracy"], row.get("eval/num_prompts")
    if prompts:
        found = wilson(round(value * prompts), prompts, 0.95)
        return found.low, found.high
    margin = row.get("eval/accuracy/ci95") or 0.0
    return max(0.0, value - margin), min(1.0, value + margin)


def _counted(view: RunView, name: str) -> int:
    return int(sum(row.get(name) or 0 for row in view.streams.get("buffer", [])))


def _ends(view: RunView) -> tuple[list[Row], list[Row]]:
    return view.steps[:END_STEPS], view.steps[-END_STEPS:]


def _mean(rows: list[Row], name: str) -> float | None:
    return mean_of(row.get(name) for row in rows)


def _where(view: RunView, name: str, condition: Callable[[float], bool]) -> list[Row]:
    return [row for row in view.steps if row.get(name) is not None and condition(row[name])]
