"""A journal in a few numbers."""

from collections import Counter, defaultdict
from typing import Any

from async_r1.formatting import count, plural
from async_r1.journal_history import History
from async_r1.journal_tables import Tables

_PROBLEMS_SHOWN = 10
_MIB = 2**20


def summarize(history: History, tables: Tables) -> dict[str, Any]:
    """The numbers as plain values."""
    fates: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for rollout in history.rollouts.values():
        fate = fates[tables.fate(rollout)]
        fate[0] += 1
        fate[1] += rollout.num_tokens
    leases = [lease for r in history.rollouts.values() for lease in r.leases.values()]
    draws = Counter(
        "trained" if d.step is not None else "refunded" if d.refunded else "drawn"
        for d in history.draws.values()
    )
    versions = [step.policy_version for step in history.steps]
    return {
        "files": [str(path) for path in history.files],
        "file_bytes": sum(path.stat().st_size for path in history.files if path.exists()),
        "begin": history.begin,
        "end": history.end,
        "records": {
            kind: {"records": number, "bytes": history.kind_bytes[kind]}
            for kind, number in history.kinds.most_common()
        },
        "prompts": len({group.prompt_id for group in history.groups.values()}),
        "groups": len(history.groups),
        "groups_closed": sum(group.closed for group in history.groups.values()),
        "rollouts": {
            fate: {"rollouts": number, "tokens": tokens}
            for fate, (number, tokens) in sorted(fates.items(), key=lambda x: -x[1][0])
        },
        "leases": len(leases),
        "leases_continued": sum(bool(lease.token_offset) for lease in leases),
        "leases_by_holder": dict(Counter(lease.holder for lease in leases).most_common()),
        "draws": dict(draws),
        "steps": max((step.step for step in history.steps), default=0),
        "policy_version": max(versions, default=0),
        "problems": history.problems,
    }


def first_problems(problems: list[str]) -> list[str]:
    """As many as one reads, and how many more there are; `--json` has all."""
    hidden = len(problems) - _PROBLEMS_SHOWN
    more = [f"and {count(hidden)} more {plural('problem', hidden)}"] if hidden > 0 else []
    return [*problems[:_PROBLEMS_SHOWN], *more]


def summary_text(s: dict[str, Any]) -> str:
    """The numbers as lines for people."""
    num_files, begin = len(s["files"]), s["begin"]
    since = f", from byte {count(begin)} on: what was before is compacted" if begin else ""
    records = sum(kind["records"] for kind in s["records"].values())
    kinds = ", ".join(f"{count(v['records'])} {kind}" for kind, v in s["records"].items())
    lines = [
        (
            "journal",
            f"{s['file_bytes'] / _MIB:,.1f} MiB in {num_files} {plural('file', num_files)}{since}",
        ),
        ("records", f"{count(records)}: {kinds}"),
        ("prompts", count(s["prompts"])),
        ("groups", f"{count(s['groups'])}, {count(s['groups_closed'])} of them closed"),
    ]
    for number, (fate, v) in enumerate(s["rollouts"].items()):
        text = f"{count(v['rollouts']):>9} {fate}, {count(v['tokens'])} tokens"
        lines.append(("" if number else "rollouts", text))
    holders = ", ".join(f"{name or '?'} {count(n)}" for name, n in s["leases_by_holder"].items())
    lines += [
        (
            "leases",
            f"{count(s['leases'])}, {count(s['leases_continued'])} of them continued a rollout; "
            f"{holders}",
        ),
        ("draws", ", ".join(f"{count(n)} {state}" for state, n in s["draws"].items()) or "none"),
        ("steps", f"{count(s['steps'])}, up to version {count(s['policy_version'])}"),
    ]
    for number, problem in enumerate(first_problems(s["problems"])):
        lines.append(("" if number else "problems", problem))
    return "\n".join(f"{name:9} {text}" for name, text in lines)
