"""What a run did, in sentences made from its rows; a sentence is empty where the rows do not tell.

Every number is measured or configured; what it means for the run is said only where it follows.
"""

import shlex
from html import escape
from pathlib import Path
from typing import Any

from async_r1.errors import RunDirError
from async_r1.formatting import UNKNOWN, count, duration, plural
from async_r1.report_flow import journal, left_out, staleness, trained_share, waiting
from async_r1.report_outcome import accuracy, lengths, levels
from async_r1.report_warnings import warnings
from async_r1.run_dir import read_json
from async_r1.summary import Summary
from async_r1.view import RunView


def words_section(view: RunView, summary: Summary) -> str:
    """The section as HTML: a few paragraphs, the warnings, the command."""
    paragraphs = [
        [what(view, summary), control(view)],
        [accuracy(view, summary), levels(summary), lengths(view, summary)],
        [staleness(view, summary), left_out(view), trained_share(summary), waiting(view, summary)],
        [journal(view)],
    ]
    body = "".join(
        f"<p>{_html(' '.join(filter(None, sentences)))}</p>"
        for sentences in paragraphs
        if any(sentences)
    )
    found = warnings(view, summary)
    if found:
        items = "".join(f"<li>{_html(text)}</li>" for text in found)
        body += f'<ul class="warnings">{items}</ul>'
    elif view.steps:
        body += (
            "<p>Nothing stood out among what is checked: staleness bound, entropy, effective "
            "sample size, groups without variance, selection bias, truncation, accuracy against "
            "its best, rejected messages.</p>"
        )
    again = command(view)
    if again:
        body += f'<p class="again">Again: <code>{escape(again)}</code> {escape(code(view))}</p>'
    return f'<section id="words" class="words-of-run">{body}</section>'


def what(view: RunView, s: Summary) -> str:
    """What was trained on what, in which way, for how long, and how that ended."""
    model = Path(str(view.option("model.path", ""))).name or view.option("model.init") or "a model"
    task = view.option("task.name") or "a task"
    planned = s.num_updates
    steps = f"{count(s.steps)} optimizer {plural('step', s.steps)}"
    if planned and planned != s.steps:
        steps = f"{count(s.steps)} of {count(planned)} optimizer steps"
    end = {
        "finished": "and finished",
        "failed": "and failed",
        "interrupted": "and was interrupted",
        "running": "and was still running when this page was written",
    }.get(s.state, "how it ended is not recorded")
    mode = {
        "async": f"asynchronously (staleness.eta={_option(view, 'staleness.eta')})",
        "sync": "synchronously",
    }.get(str(view.option("mode")), "in an unknown mode")
    sizes = (
        f"{_option(view, 'learner.groups_per_update')} groups of "
        f"{_option(view, 'buffer.group_size')} rollouts a step"
    )
    actors, ranks = _option(view, "actors.count"), _option(view, "learner.ranks")
    return (
        f"The run trained {model} on {task}{_levels(view.option('task.levels'))} for {steps} in "
        f"{duration(s.wall_s)}, {end}. It ran {mode} with "
        f"objective={_option(view, 'objective.name')}, {sizes}, {actors} "
        f"{plural('actor', actors)} and {ranks} learner {plural('rank', ranks)}."
    )


def control(view: RunView) -> str:
    """Said of runs that cannot learn on purpose."""
    if not view.option("reward.shuffle"):
        return ""
    return (
        "Rewards were permuted within each group (reward.shuffle=true): a control, from which "
        "nothing can be learned."
    )


def command(view: RunView) -> str:
    """The command that starts the same run again, in a directory of its own."""
    from omegaconf import OmegaConf
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        overrides = OmegaConf.to_container(OmegaConf.load(view.run_dir.config / "overrides.yaml"))
    except (OSError, YAMLError):  # absent, or not the list that the launcher wrote
        return ""
    if not isinstance(overrides, list):
        return ""
    kept = [str(o) for o in overrides if not str(o).startswith(("run.name=", "run.dir="))]
    return shlex.join(["async_r1", "launch", *kept])


def code(view: RunView) -> str:
    """Which code it was, as far as it is recorded."""
    try:
        revision = read_json(view.run_dir.environment).get("git_revision")
    except (RunDirError, AttributeError):
        return ""
    if not revision:
        return ""
    diff = view.run_dir.root / "code.diff"
    changed = " with the changes in code.diff" if diff.exists() and diff.stat().st_size else ""
    return f"(code at {str(revision)[:12]}{changed})"


def _html(text: str) -> str:
    return escape(text).replace(" %", "\u00a0%")  # a number stays with its sign


def _levels(levels: Any) -> str:
    if not isinstance(levels, list) or not levels:
        return ""
    low, high = min(levels), max(levels)
    if len(levels) == 1:
        return f" (level {low})"
    if sorted(levels) == list(range(low, high + 1)):
        return f" (levels {low} to {high})"
    return f" (levels {', '.join(map(str, levels))})"


def _option(view: RunView, name: str) -> Any:
    return view.option(name, UNKNOWN)
