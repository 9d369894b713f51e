"""What a run did, in sentences made from its rows; a sentence is empty where the rows do not tell.

Every number is measured or configured; what it means for the run is said only where it follows.
"""

import shlex
from html import escape
from pathlib import Path
from typing import Any

from async_r1.averages import ratio, time_weighted_mean
from async_r1.errors import RunDirError
from async_r1.formatting import UNKNOWN, count, duration, number, percent, versions
from async_r1.report_warnings import interval, warnings
from async_r1.rows import Row, level_accuracies
from async_r1.run_dir import read_json
from async_r1.summary import END_STEPS, Summary
from async_r1.view import RunView

NOTABLE_FRAC = 0.1  # a difference in waiting, or a wait, worth a conclusion


def words_section(view: RunView, summary: Summary) -> str:
    """The section as HTML: a few paragraphs, the warnings, the command."""
    paragraphs = [
        [what(view, summary), control(view)],
        [accuracy(view, summary), levels(summary), lengths(view, summary)],
        [staleness(view, summary), left_out(view), trained_share(summary), waiting(view, summary)],
    ]
    body = "".join(
        f"<p>{escape(' '.join(filter(None, sentences)))}</p>"
        for sentences in paragraphs
        if any(sentences)
    )
    found = warnings(view, summary)
    if found:
        items = "".join(f"<li>{escape(text)}</li>" for text in found)
        body += f'<ul class="warnings">{items}</ul>'
    elif view.steps:
        body += (
            "<p>Nothing stood out among what is checked: staleness bound, entropy, effective "
            "sample size, groups without variance, truncation, accuracy against its best, "
            "rejected messages.</p>"
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
    steps = f"{count(s.steps)} optimizer {_plural('step', s.steps)}"
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
        f"{_plural('actor', actors)} and {ranks} learner {_plural('rank', ranks)}."
    )


def control(view: RunView) -> str:
    """Said of runs that cannot learn on purpose."""
    if not view.option("reward.shuffle"):
        return ""
    return (
        "Rewards were permuted within each group (reward.shuffle=true): a control, from which "
        "nothing can be learned."
    )


def accuracy(view: RunView, s: Summary) -> str:
    """Held-out accuracy from the first eval to the last, with intervals."""
    first, last, best = s.first_eval, s.last_eval, s.best_eval
    if first is None or last is None or best is None:
        return "Held-out accuracy was not measured."
    sampled = view.option("eval.temperature", 0.0)
    how = f"at temperature {sampled:g}" if sampled else "greedy"
    prompts = f"{count(last.get('eval/num_prompts'))} prompts, {how}, 95 % intervals"
    if first is last:
        return f"Held-out accuracy ({prompts}) was measured once: {_measured(first)}."
    text = f"Held-out accuracy ({prompts}) went from {_measured(first)} to {_measured(last)}."
    (low_a, high_a), (low_b, high_b) = interval(first), interval(last)
    if low_b <= high_a and low_a <= high_b:
        text += " The intervals overlap: these evals do not tell the two apart."
    if best["eval/accuracy"] > last["eval/accuracy"]:
        text += f" It was highest at {versions(best)}, {number(best['eval/accuracy'])}."
    return text


def levels(s: Summary) -> str:
    """Accuracy by level, first and last."""
    first, last = s.first_eval or {}, s.last_eval or {}
    pairs = [
        (level, first.get(f"eval/accuracy/level_{level}"), value)
        for level, value in level_accuracies(last)
    ]
    if len(pairs) < 2:
        return ""
    by_level = ", ".join(
        f"level {level} {number(value)}"
        if s.first_eval is s.last_eval
        else f"level {level} from {number(before)} to {number(value)}"
        for level, before, value in pairs
    )
    return f"By level: {by_level}."


def lengths(view: RunView, s: Summary) -> str:
    """Where the length of completions went."""
    if s.length_first is None or s.length_last is None:
        return ""
    longest = max(
        (row["completion_length/max"] for row in view.steps if row.get("completion_length/max")),
        default=None,
    )
    text = (
        f"Completions went from {number(s.length_first, 1)} to {number(s.length_last, 1)} tokens "
        f"on average, rewards from {number(s.reward_first)} to {number(s.reward_last)} (means of "
        f"the first and the last {END_STEPS} steps)"
        if len(view.steps) > END_STEPS
        else f"Completions had {number(s.length_last, 1)} tokens on average"
    )
    return f"{text}; the longest that trained had {count(longest)}."


def staleness(view: RunView, s: Summary) -> str:
    """How old tokens were when they trained, and whether the bound held."""
    if s.staleness_mean is None or s.staleness_max is None:
        return ""
    bound = count(s.staleness_bound)
    kept = {
        True: f"the bound of {bound} was kept at every step",
        False: f"the bound of {bound} was exceeded at {len(s.over_bound)} of {s.steps} steps",
        None: f"whether the bound of {bound} was kept is not recorded for every step",
    }[s.bound_kept]
    text = (
        f"Tokens trained {number(s.staleness_mean, 2)} versions after the one that sampled them "
        f"on average and {count(s.staleness_max)} at most; {kept}."
    )
    if s.three_versions_frac:
        text += f" {percent(s.three_versions_frac)} of the trained rollouts span three versions or"
        text += " more."
    suspended = total(view, "leases/suspended")
    if suspended:
        text += f" Rollouts were suspended {count(suspended)} {_plural('time', suspended)}."
    return text


def left_out(view: RunView) -> str:
    """What was sampled and masked, dropped, or of no use."""
    parts = []
    closed, zero = total(view, "groups/closed"), total(view, "groups/zero_variance")
    if closed and zero:
        kept = view.option("buffer.keep_zero_variance")
        end = "had equal rewards throughout" + ("" if kept else " and did not train")
        parts.append(
            f"{count(zero)} of {count(closed)} closed groups ({_share(zero, closed)}) {end}"
        )
    for name, end in (
        ("groups/dropped_overdue", "dropped as overdue"),
        ("groups/removed", "removed from a full buffer"),
    ):
        number_of = total(view, name)
        if number_of:
            parts.append(
                f"{count(number_of)} {_plural('group', number_of)} {_were(number_of)} {end}"
            )
    expired = total(view, "groups/expired")
    if expired:
        parts.append(
            f"{count(expired)} {_plural('rollout', expired)} {_were(expired)} not done when "
            f"{'its group' if expired == 1 else 'their groups'} closed"
        )
    rows = view.streams.get("learner", [])
    masked = sum(row.get("staleness/masked_tokens") or 0 for row in rows)
    drawn = sum(row.get("batch/num_tokens") or 0 for row in rows)
    if masked:
        parts.append(
            f"{count(masked)} tokens of the batches ({_share(masked, drawn)}) were masked because "
            "they were older than the bound"
        )
    if not masked and not total(view, "groups/dropped_overdue") and rows:
        parts.append("nothing was masked or dropped for its age")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def trained_share(s: Summary) -> str:
    """How much of what was sampled trained."""
    if not s.tokens_sampled or s.tokens_trained is None:
        return ""
    return (
        f"Of {count(s.tokens_sampled)} sampled tokens {count(s.tokens_trained)} trained "
        f"({_share(s.tokens_trained, s.tokens_sampled)}); evals, groups left out, and what was "
        "unfinished or unused at the end are the rest."
    )


def waiting(view: RunView, s: Summary) -> str:
    """Who waited for whom."""
    actors, learner = s.actor_idle_frac, s.learner_idle_frac
    if actors is None or learner is None:
        return ""
    text = f"The actors waited {percent(actors)} of their time, the learner {percent(learner)}"
    if view.option("mode") == "sync":
        end = "in sync mode they take turns"
    elif learner - actors > NOTABLE_FRAC:
        end = "sampling set the pace"
    elif actors - learner > NOTABLE_FRAC:
        end = "training set the pace"
    elif max(actors, learner) < NOTABLE_FRAC:
        end = "both were busy"
    else:
        end = "both waited"
    rows = view.streams.get("buffer", [])
    blocked = time_weighted_mean(rows, "admission/blocked_frac")
    text = f"{text}: {end}."
    if blocked is not None and blocked > NOTABLE_FRAC:
        text += f" For {percent(blocked)} of the time the staleness bound held new groups back."
    return text


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


def total(view: RunView, name: str) -> int:
    """Sum of what the buffer counts anew in every row."""
    return int(sum(row.get(name) or 0 for row in view.streams.get("buffer", [])))


def _measured(row: Row) -> str:
    low, high = interval(row)
    return f"{number(row['eval/accuracy'])} at {versions(row)} ({number(low)} to {number(high)})"


def _levels(levels: Any) -> str:
    if not isinstance(levels, list) or not levels:
        return ""
    low, high = min(levels), max(levels)
    if len(levels) == 1:
        return f" (level {low})"
    if sorted(levels) == list(range(low, high + 1)):
        return f" (levels {low} to {high})"
    return f" (levels {', '.join(map(str, levels))})"


def _share(part: float, whole: float) -> str:
    return percent(ratio(part, whole))


def _option(view: RunView, name: str) -> Any:
    return view.option(name, UNKNOWN)


def _plural(noun: str, number_of: Any) -> str:
    return noun if number_of == 1 else f"{noun}s"


def _were(number_of: float) -> str:
    return "was" if number_of == 1 else "were"
