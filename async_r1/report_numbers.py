"""The numbers of a report: its head, its tiles and its tables."""

import time
from html import escape
from pathlib import Path

from async_r1.formatting import UNKNOWN, count, duration, number, percent, versions
from async_r1.summary import Summary, accuracy_rows, lines
from async_r1.view import RunView

_COUNTED = (
    ("groups without variance in reward", "groups/zero_variance"),
    ("groups dropped as overdue", "groups/dropped_overdue"),
    ("groups removed from a full buffer", "groups/removed"),
    ("groups left with too few rewards", "groups/failed"),
    ("rewards that failed", "reward/errors"),
    ("rewards out of time", "reward/timeouts"),
    ("rollouts that their group closed without", "groups/expired"),
    ("leases suspended", "leases/suspended"),
    ("messages of revoked leases", "leases/revoked"),
    ("messages rejected", "wire/rejected"),
)


def header(view: RunView, summary: Summary) -> str:
    """Name, state and the facts that tell this run from others; why it failed, if it did."""
    started_at = view.resolved.get("started_at")
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(started_at)) if started_at else UNKNOWN
    facts = {
        "experiment": view.option("experiment"),
        "task": view.option("task.name"),
        "model": _short(str(view.option("model.path", ""))),
        "mode": view.option("mode"),
        "seed": view.option("seed"),
        "started": day,
        "wall time": duration(summary.wall_s),
    }
    shown = "".join(
        f"<span><b>{escape(name)}</b> {escape(str(value))}</span>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    failure = ""
    if summary.state == "failed":
        status = view.status
        failure = (
            f'<p class="failure">{escape(str(status.get("role") or "a role"))} failed: '
            f"{escape(str(status.get('error') or 'see its log'))} "
            f"<code>{escape(str(status.get('log') or ''))}</code></p>"
        )
    state = escape(summary.state)
    return (
        f'<header><h1>{escape(view.name)} <span class="state {state}">{state}</span></h1>'
        f'<p class="facts">{shown}</p>{failure}</header>'
    )


def tiles(s: Summary) -> str:
    """The six numbers that are looked for first."""
    first, last = s.first_eval or {}, s.last_eval or {}
    exceeded = f"exceeded at {len(s.over_bound)} of {s.steps} steps"
    kept = {True: "kept", False: exceeded, None: "not recorded"}[s.bound_kept]
    tiles = [
        (
            "held-out accuracy",
            number(last.get("eval/accuracy")),
            f"{versions(s.last_eval)}; from {number(first.get('eval/accuracy'))} "
            f"at {versions(s.first_eval)}"
            if s.first_eval
            else "not measured",
        ),
        ("reward", number(s.reward_last), f"from {number(s.reward_first)}"),
        (
            "completion length",
            number(s.length_last, 1),
            f"tokens; from {number(s.length_first, 1)}",
        ),
        (
            "staleness",
            number(s.staleness_mean, 2),
            f"mean; max {count(s.staleness_max)}, bound {count(s.staleness_bound)} {kept}",
        ),
        ("sampled tokens/s", count(s.sampled_per_s), f"trained {count(s.trained_per_s)}"),
        ("actors idle", percent(s.actor_idle_frac), f"learner {percent(s.learner_idle_frac)}"),
    ]
    return (
        '<section class="tiles">'
        + "".join(
            f"<div{_bad(name == 'staleness' and s.bound_kept is False)}><h2>{name}</h2>"
            f"<strong>{escape(value)}</strong><p>{escape(note)}</p></div>"
            for name, value, note in tiles
        )
        + "</section>"
    )


def numbers_section(view: RunView, summary: Summary) -> str:
    """Held-out accuracy by level, what was left out, and the summary in full."""
    evals = {"first": summary.first_eval, "last": summary.last_eval, "best": summary.best_eval}
    heads = "".join(f"<th>{name} {versions(row)}</th>" for name, row in evals.items())
    accuracy = "".join(
        f"<tr><th>{title}</th>{''.join(f'<td>{number(v)}</td>' for v in values)}</tr>"
        for title, values in accuracy_rows(summary)
    )
    rows = "".join(
        f"<tr{_bad(name.startswith('bound') and summary.bound_kept is False)}>"
        f"<th>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in lines(summary)
    )
    return (
        '<section id="numbers"><h2>Numbers</h2><div class="tables">'
        '<div><table class="numeric accuracy"><thead><tr><th>held-out accuracy</th>'
        f"{heads}</tr></thead><tbody>{accuracy}</tbody></table>"
        '<table class="numeric"><thead><tr><th>left out, or done again</th><th>count</th></tr>'
        f"</thead><tbody>{_counts(view)}</tbody></table></div>"
        f"<table><tbody>{rows}</tbody></table></div></section>"
    )


def _short(model: str) -> str:
    """A model's name on the hub, or the last part of its path."""
    return Path(model).name if Path(model).is_absolute() else model


def _counts(view: RunView) -> str:
    rows = view.streams.get("buffer", [])
    masked = sum(row.get("staleness/masked_tokens") or 0 for row in view.streams.get("learner", []))
    counts = [(title, sum(row.get(name) or 0 for row in rows)) for title, name in _COUNTED]
    counts.append(("tokens masked for their age", masked))
    return "".join(f"<tr><th>{title}</th><td>{count(value)}</td></tr>" for title, value in counts)


def _bad(condition: bool) -> str:
    return ' class="bad"' if condition else ""
