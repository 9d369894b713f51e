"""Sentences on what the policy became: accuracy and length."""

from async_r1.formatting import count, number, versions
from async_r1.report_warnings import interval
from async_r1.rows import Row, level_accuracies
from async_r1.summary import END_STEPS, Summary
from async_r1.view import RunView


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


def _measured(row: Row) -> str:
    low, high = interval(row)
    return f"{number(row['eval/accuracy'])} at {versions(row)} ({number(low)} to {number(high)})"
