"""Sentences on how tokens came to train: their age, what was left out, who waited for whom."""

from async_r1.averages import ratio, time_weighted_mean
from async_r1.formatting import count, number, percent, plural
from async_r1.summary import Summary
from async_r1.view import RunView

NOTABLE_FRAC = 0.1  # a difference in waiting, or a wait, worth a conclusion


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
    suspended = _total(view, "leases/suspended")
    if suspended:
        text += f" Rollouts were suspended {count(suspended)} {plural('time', suspended)}."
    return text


def left_out(view: RunView) -> str:
    """What was sampled and masked, dropped, or of no use."""
    parts = []
    closed, zero = _total(view, "groups/closed"), _total(view, "groups/zero_variance")
    if closed and zero:
        kept = view.option("buffer.keep_zero_variance")
        end = "had equal rewards throughout" + ("" if kept else " and did not train")
        parts.append(
            f"{count(zero)} of {count(closed)} closed groups ({_share(zero, closed)}) {end}"
        )
    for name, end in (
        ("groups/dropped_overdue", "dropped as overdue"),
        ("groups/removed", "removed from a full buffer"),
        ("groups/failed", "left with too few rewards"),
    ):
        number_of = _total(view, name)
        if number_of:
            parts.append(
                f"{count(number_of)} {plural('group', number_of)} {_were(number_of)} {end}"
            )
    errors, timeouts = _total(view, "reward/errors"), _total(view, "reward/timeouts")
    if errors:
        late = f", {count(timeouts)} of them for time" if timeouts else ""
        parts.append(
            f"{count(errors)} {plural('rollout', errors)} got no reward because it failed{late}"
        )
    expired = _total(view, "groups/expired")
    if expired:
        parts.append(
            f"{count(expired)} {plural('rollout', expired)} {_were(expired)} not done when "
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
    if not masked and not _total(view, "groups/dropped_overdue") and rows:
        parts.append("nothing was masked or dropped for its age")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def trained_share(s: Summary) -> str:
    """How much of what was sampled trained."""
    if not s.tokens_sampled or s.tokens_trained is None:
        return ""
    if s.tokens_trained > s.tokens_sampled:
        return (
            f"{count(s.tokens_sampled)} tokens were sampled and {count(s.tokens_trained)} trained: "
            "some more than once."
        )
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


def journal(view: RunView) -> str:
    """What the run can be resumed from, and how large it was."""
    size = view.latest_of("buffer", "journal/bytes")
    if not size:
        return ""
    compactions = view.latest_of("buffer", "journal/compactions")
    times = f", after {count(compactions)} {plural('compaction', compactions)}"
    end = times if compactions else ""
    return f"The journal had {size / 2**20:,.1f} MiB at the end{end}."


def _total(view: RunView, name: str) -> int:
    """Sum of what the buffer counts anew in every row."""
    return int(sum(row.get(name) or 0 for row in view.streams.get("buffer", [])))


def _share(part: float, whole: float) -> str:
    return percent(ratio(part, whole))


def _were(number_of: float) -> str:
    return "was" if number_of == 1 else "were"
