"""The history of a run as tables: plain rows, one table a subject, the same names everywhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from async_r1.advantages import is_zero_variance
from async_r1.journal_history import History
from async_r1.journal_lines import DrawLine, GroupLine, LeaseLine, RolloutLine
from async_r1.rewards.weighted import is_right

Row = dict[str, Any]

# Columns of each table, by SQLite's name of their type; docs/durability.md says what they mean.
TABLES = {
    "groups": "group_id INTEGER, prompt_id TEXT, level INTEGER, version INTEGER, closed INTEGER, "
    "num_rollouts INTEGER, num_scored INTEGER, num_tokens INTEGER, right INTEGER, "
    "reward_mean REAL, reward_std REAL, times_trained INTEGER, left TEXT",
    "rollouts": "rollout_id INTEGER, group_id INTEGER, member INTEGER, prompt_id TEXT, "
    "level INTEGER, num_prompt_tokens INTEGER, num_tokens INTEGER, first_version INTEGER, "
    "last_version INTEGER, num_versions INTEGER, num_segments INTEGER, num_leases INTEGER, "
    "holders TEXT, finish_reason TEXT, reward_task REAL, reward_total REAL, rewards TEXT, "
    "error TEXT, fate TEXT, text TEXT",
    "spans": "rollout_id INTEGER, group_id INTEGER, token_offset INTEGER, num_tokens INTEGER, "
    "version INTEGER",
    "leases": "rollout_id INTEGER, group_id INTEGER, lease_epoch INTEGER, kind TEXT, holder TEXT, "
    "version INTEGER, token_offset INTEGER, num_tokens INTEGER, end TEXT",
    "draws": "batch_id INTEGER, version INTEGER, item_id INTEGER, num_rollouts INTEGER, "
    "group_id INTEGER, priority REAL, inclusion_prob REAL, state TEXT, step INTEGER",
    "trained": "batch_id INTEGER, step INTEGER, version INTEGER, group_id INTEGER, "
    "rollout_id INTEGER, prompt_id TEXT, inclusion_prob REAL, num_tokens INTEGER, "
    "inside_bound INTEGER, max_staleness INTEGER, state TEXT",
    "steps": "step INTEGER, policy_version INTEGER, batch_id INTEGER, trained_tokens INTEGER",
    "prompts": "prompt_id TEXT, level INTEGER, groups INTEGER, closed INTEGER, "
    "zero_variance INTEGER, scored INTEGER, right INTEGER, trained INTEGER, mean_tokens REAL, "
    "first_version INTEGER, last_version INTEGER",
}


def columns(table: str) -> list[str]:
    """Names of the columns of a table, in order."""
    return [column.split()[0] for column in TABLES[table].split(", ")]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are asked for; None or empty: all."""

    group_id: int | None = None
    rollout_id: int | None = None
    prompt_id: str = ""
    versions: tuple[int, int] | None = None  # first and last

    def takes(self, row: Row) -> bool:
        """Whether a row that has such a column has such a value."""
        for name, wanted in (("group_id", self.group_id), ("rollout_id", self.rollout_id)):
            if wanted is not None and row.get(name, wanted) != wanted:
                return False
        if self.prompt_id and row.get("prompt_id", self.prompt_id) != self.prompt_id:
            return False
        if self.versions is None:
            return True
        first = row.get("first_version", row.get("version", row.get("policy_version")))
        last = row.get("last_version", first)
        if first is None or last is None:
            return False
        return bool(first <= self.versions[1] and last >= self.versions[0])


class Tables:
    """Rows of a history.

    Args:
        config: as plain values, of `config/resolved.json`; empty if it is not known. It says how
            old a token may be when it trains, and how many scored members a group needs.
    """

    def __init__(self, history: History, config: Mapping[str, Any]) -> None:
        self._history = history
        staleness, buffer = config.get("staleness", {}), config.get("buffer", {})
        bounds = [staleness[name] for name in ("eta", "force") if name in staleness]
        self._eta: int | None = max(bounds, default=None)
        self._min_rollouts = int(buffer.get("min_rollouts", 1))
        self._keeps_zero_variance = bool(buffer.get("keep_zero_variance"))
        self._draws_of: dict[int, list[DrawLine]] = {}  # by rollout
        for draw in history.draws.values():
            for _, rollout in self._drawn(draw):
                self._draws_of.setdefault(rollout.rollout_id, []).append(draw)

    def rows(self, table: str, wanted: Filter | None = None) -> Iterator[Row]:
        """Rows of a table of TABLES, in order."""
        rows: Iterator[Row] = getattr(self, f"_{table}")()
        return (row for row in rows if wanted is None or wanted.takes(row))

    def fate(self, rollout: RolloutLine) -> str:
        """What became of a rollout: trained, drawn (no step has acknowledged it), kept (it closed
        with its group and waits, unless it left for a reason that is not recorded), or why it
        left; of one whose group is open, what it does."""
        group = self._history.groups.get(-1 if rollout.group_id is None else rollout.group_id)
        if group is None or not group.closed:
            return _state(rollout)
        if rollout.error:
            return "failed"
        if rollout.left:
            return rollout.left
        if not rollout.scored:
            return "expired"
        draws = [d for d in self._draws_of.get(rollout.rollout_id, []) if not d.refunded]
        if draws:
            return "trained" if any(draw.step is not None for draw in draws) else "drawn"
        if self._num_scored(group) < min(self._min_rollouts, len(group.rollout_ids)):
            return "dropped_too_few"
        if self._has_no_variance(group) and not self._keeps_zero_variance:
            return "dropped_zero_variance"
        return "kept"

    def _num_scored(self, group: GroupLine) -> int:
        return sum(bool(rollout.rewards) for rollout in self._members(group))

    def _has_no_variance(self, group: GroupLine) -> bool:
        totals = [r.rewards["total"] for r in self._members(group) if "total" in r.rewards]
        return bool(totals) and is_zero_variance(totals)

    def _members(self, group: GroupLine) -> list[RolloutLine]:
        known = self._history.rollouts
        return [known[rollout_id] for rollout_id in group.rollout_ids]

    def _drawn(self, draw: DrawLine) -> Iterator[tuple[int, RolloutLine]]:
        """Rollouts of a draw, each with the position of its item."""
        for position, rollout_ids in enumerate(draw.rollout_ids):
            for rollout_id in rollout_ids:
                yield position, self._history.rollout(rollout_id)

    def _groups(self) -> Iterator[Row]:
        for group in self._history.groups.values():
            members = self._members(group)
            totals = [r.rewards["total"] for r in members if "total" in r.rewards]
            tasks = [r.rewards["task"] for r in members if "task" in r.rewards]
            draws = {d.batch_id for m in members for d in self._draws_of.get(m.rollout_id, [])}
            trained = [self._history.draws[batch_id].step is not None for batch_id in draws]
            yield {
                "group_id": group.group_id,
                "prompt_id": group.prompt_id,
                "level": group.level,
                "version": group.opened_version,
                "closed": int(group.closed),
                "num_rollouts": len(members),
                "num_scored": len(totals),
                "num_tokens": sum(rollout.num_tokens for rollout in members),
                "right": sum(is_right(task) for task in tasks),
                "reward_mean": float(np.mean(totals)) if totals else None,
                "reward_std": float(np.std(totals)) if totals else None,
                "times_trained": sum(trained),
                "left": " ".join(sorted({rollout.left for rollout in members} - {""})),
            }

    def _rollouts(self) -> Iterator[Row]:
        for rollout in self._history.rollouts.values():
            group = self._group_of(rollout)
            versions = rollout.versions
            yield {
                "rollout_id": rollout.rollout_id,
                "group_id": rollout.group_id,
                "member": rollout.member,
                "prompt_id": group.prompt_id if group else "",
                "level": group.level if group else None,
                "num_prompt_tokens": rollout.num_prompt_tokens,
                "num_tokens": rollout.num_tokens,
                "first_version": versions[0] if versions else None,
                "last_version": versions[-1] if versions else None,
                "num_versions": len(versions),
                "num_segments": rollout.num_segments,
                "num_leases": len(rollout.leases),
                "holders": " ".join(dict.fromkeys(x.holder for x in rollout.leases.values())),
                "finish_reason": rollout.finish_reason,
                "reward_task": rollout.rewards.get("task"),
                "reward_total": rollout.rewards.get("total"),
                "rewards": rollout.rewards,
                "error": rollout.error,
                "fate": self.fate(rollout),
                "text": rollout.text,
            }

    def _spans(self) -> Iterator[Row]:
        """Runs of tokens of one version."""
        for rollout in self._history.rollouts.values():
            start = 0
            for version, count in rollout.spans:
                yield {
                    "rollout_id": rollout.rollout_id,
                    "group_id": rollout.group_id,
                    "token_offset": start,
                    "num_tokens": count,
                    "version": version,
                }
                start += count

    def _leases(self) -> Iterator[Row]:
        rollouts = self._history.rollouts.values()
        for rollout in rollouts:
            for lease in rollout.leases.values():
                yield self._lease(lease, rollout.group_id)
        for lease in self._history.eval_leases:
            yield self._lease(lease, None) | {"kind": "eval"}

    def _lease(self, lease: LeaseLine, group_id: int | None) -> Row:
        return {
            "rollout_id": lease.rollout_id,
            "group_id": group_id,
            "lease_epoch": lease.lease_epoch,
            "kind": "train",
            "holder": lease.holder,
            "version": lease.version,
            "token_offset": lease.token_offset,
            "num_tokens": lease.num_tokens,
            "end": lease.end,
        }

    def _draws(self) -> Iterator[Row]:
        """Items of draws, each with its probability of being in the draw."""
        for draw in self._history.draws.values():
            for position, item_id in enumerate(draw.item_ids):
                first = self._history.rollout(draw.rollout_ids[position][0])
                yield {
                    "batch_id": draw.batch_id,
                    "version": draw.version,
                    "item_id": item_id,
                    "num_rollouts": len(draw.rollout_ids[position]),
                    "group_id": first.group_id,
                    "priority": draw.priorities[position],
                    "inclusion_prob": draw.inclusion_probs[position],
                    "state": _draw_state(draw),
                    "step": draw.step,
                }

    def _trained(self) -> Iterator[Row]:
        """Rollouts of draws: who trained on what, at which version, and how much of it was inside
        the staleness bound (None: the bound is not known)."""
        for draw in self._history.draws.values():
            for position, rollout in self._drawn(draw):
                ages = [(draw.version - version, count) for version, count in rollout.spans]
                eta, group = self._eta, self._group_of(rollout)
                inside = None if eta is None else sum(n for age, n in ages if age <= eta)
                yield {
                    "batch_id": draw.batch_id,
                    "step": draw.step,
                    "version": draw.version,
                    "group_id": rollout.group_id,
                    "rollout_id": rollout.rollout_id,
                    "prompt_id": group.prompt_id if group else "",
                    "inclusion_prob": draw.inclusion_probs[position],
                    "num_tokens": rollout.num_tokens,
                    "inside_bound": inside,
                    "max_staleness": max((age for age, _ in ages), default=None),
                    "state": _draw_state(draw),
                }

    def _steps(self) -> Iterator[Row]:
        for step in self._history.steps:
            yield {
                "step": step.step,
                "policy_version": step.policy_version,
                "batch_id": step.batch_id,
                "trained_tokens": step.trained_tokens,
            }

    def _prompts(self) -> Iterator[Row]:
        """What is known of each prompt, over all of its closed groups."""
        of: dict[str, list[GroupLine]] = {}
        for group in self._history.groups.values():
            of.setdefault(group.prompt_id, []).append(group)
        for prompt_id, groups in of.items():
            closed = [group for group in groups if group.closed]
            scored = [r for g in closed for r in self._members(g) if "task" in r.rewards]
            opened = [g.opened_version for g in groups if g.opened_version is not None]
            fates = [self.fate(rollout) for rollout in scored]
            yield {
                "prompt_id": prompt_id,
                "level": next((g.level for g in groups if g.level is not None), None),
                "groups": len(groups),
                "closed": len(closed),
                "zero_variance": sum(self._has_no_variance(group) for group in closed),
                "scored": len(scored),
                "right": sum(is_right(rollout.rewards["task"]) for rollout in scored),
                "trained": fates.count("trained"),
                "mean_tokens": (
                    sum(rollout.num_tokens for rollout in scored) / len(scored) if scored else None
                ),
                "first_version": min(opened, default=None),
                "last_version": max(opened, default=None),
            }

    def _group_of(self, rollout: RolloutLine) -> GroupLine | None:
        return None if rollout.group_id is None else self._history.groups.get(rollout.group_id)


def _state(rollout: RolloutLine) -> str:
    if rollout.scored:
        return "failed" if rollout.error else "scored"
    if rollout.finish_reason:
        return "finished"
    if rollout.suspended:
        return "suspended"
    return "leased" if rollout.leases else "pending"


def _draw_state(draw: DrawLine) -> str:
    if draw.step is not None:
        return "trained"
    return "refunded" if draw.refunded else "drawn"
