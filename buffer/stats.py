"""Counters of the buffer between two published versions."""

import logging
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from async_r1.types import LeaseKind
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout
from buffer.selection import Selection

log = logging.getLogger("buffer")

MAX_KINDS = 100  # of reward errors that are told apart, and rollouts with one that are kept

_COUNTS = (
    "groups/closed",
    "groups/zero_variance",
    "groups/failed",
    "groups/screened_out",
    "groups/grown",
    "groups/expired",
    "groups/dropped_overdue",
    "groups/removed",
    "staleness/admission_blocked",
    "staleness/in_flight_overdue",
    "staleness/draws_waited",
    "leases/granted",
    "leases/suspended",
    "leases/revoked",
    "reward/errors",
    "reward/timeouts",
    "replay/refunded",
    "wire/rejected",
    "wire/duplicates",
)


class BufferStats:
    """Collects what the buffer's metrics row and the learner's batch info report."""

    def __init__(self, selection: Selection | None = None) -> None:
        self.selection = selection or Selection()
        self.tokens_received = 0  # since the start
        self.counts: Counter[str] = Counter()  # since the last row
        self.last_reward_error = ""  # with its prompt
        self._error_kinds: set[str] = set()
        self._failed: list[Rollout] = []
        self._since_row: list[ClosedGroup] = []
        self._since_draw: list[ClosedGroup] = []

    def group_closed(self, group: ClosedGroup) -> None:
        self._since_row.append(group)
        self._since_draw.append(group)
        self.counts["groups/closed"] += 1
        self.counts["groups/zero_variance"] += group.zero_variance
        self.counts["groups/failed"] += group.too_few
        self.counts["groups/screened_out"] += group.screened_out
        self.counts["groups/expired"] += group.num_expired

    def reward_failed(self, rollout: Rollout) -> None:
        """A rollout has no reward; the first of each kind of error is logged."""
        self.last_reward_error = f"{rollout.error}, prompt {rollout.prompt.prompt_id}"
        kind = _kind(rollout)
        if kind not in self._error_kinds and len(self._error_kinds) < MAX_KINDS:
            self._error_kinds.add(kind)
            log.warning(
                "no reward for rollout %d: %s; the next such ones are only counted",
                rollout.rollout_id,
                self.last_reward_error,
            )
        if rollout.kind is LeaseKind.EVAL:  # counted in its own row
            return
        self.counts["reward/errors"] += 1
        self.counts["reward/timeouts"] += rollout.timed_out
        if len(self._failed) < MAX_KINDS:
            self._failed.append(rollout)

    def take_failed(self) -> list[Rollout]:
        """Training rollouts without a reward since the last call, the first ones of many."""
        failed, self._failed = self._failed, []
        return failed

    def take_draw_info(self) -> dict[str, Any]:
        """Of all groups closed since the last draw, the untrained ones too: else accuracy would
        be that of the prompts neither solved nor failed by everyone."""
        groups, self._since_draw = self._since_draw, []
        return _outcomes(groups)

    def take_row(self) -> dict[str, Any]:
        """The counters since the last row, which starts again from zero."""
        groups, self._since_row = self._since_row, []
        counts, self.counts = self.counts, Counter()
        row: dict[str, Any] = {name: counts[name] for name in _COUNTS}
        reasons = (name for name in counts if name.startswith("wire/rejected/"))
        row |= {name: counts[name] for name in sorted(reasons)}
        row["tokens/received"] = self.tokens_received
        return {**row, **_outcomes(groups)}


def _kind(rollout: Rollout) -> str:
    """What errors have in common that need not all be logged: their type and their place."""
    if rollout.timed_out:
        return "timeout"
    return f"{rollout.error.partition(':')[0]} {rollout.error.rpartition('(')[2]}"


def _outcomes(closed: list[ClosedGroup]) -> dict[str, Any]:
    # In lease order: sums of floats then do not depend on which group closed first.
    groups = sorted((group for group in closed if group.rollouts), key=lambda g: g.group_id)
    if not groups:
        return {}
    rewards = np.concatenate([group.rewards for group in groups])
    right = [right for group in groups for right in group.right]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    by_level: dict[int, list[float]] = defaultdict(list)
    by_term: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        by_level[group.prompt.level].extend(group.right)
    for rollout in rollouts:
        for name in rollout.rewards.keys() - {"task", "total"}:
            by_term[name].append(rollout.rewards[name])
    info = {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "reward/zero_std_frac": float(np.mean([group.zero_variance for group in groups])),
        "accuracy/mean": float(np.mean(right)),
        "completion_length/mean": float(np.mean([rollout.num_tokens for rollout in rollouts])),
    }
    for term, values in sorted(by_term.items()):
        info[f"reward/{term}/mean"] = float(np.mean(values))
    for level, values in sorted(by_level.items()):
        info[f"accuracy/level_{level}"] = float(np.mean(values))
    return info
