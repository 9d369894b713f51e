"""Counters of the buffer between two published versions."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from buffer.groups import ClosedGroup


class BufferStats:
    """Collects what the buffer's metrics row and the learner's batch info report."""

    def __init__(self) -> None:
        self.tokens_received = 0  # since the start
        self.counts: Counter[str] = Counter()  # since the last row
        self._since_row: list[ClosedGroup] = []
        self._since_draw: list[ClosedGroup] = []

    def group_closed(self, group: ClosedGroup) -> None:
        self._since_row.append(group)
        self._since_draw.append(group)
        self.counts["groups/closed"] += 1
        self.counts["groups/zero_variance"] += group.zero_variance
        self.counts["groups/expired"] += group.num_expired

    def take_draw_info(self) -> dict[str, Any]:
        """Of all groups closed since the last draw, the untrained ones too: else accuracy would
        be that of the prompts neither solved nor failed by everyone."""
        groups, self._since_draw = self._since_draw, []
        return _outcomes(groups)

    def take_row(self) -> dict[str, Any]:
        """The counters since the last row, which starts again from zero."""
        groups, self._since_row = self._since_row, []
        counts, self.counts = self.counts, Counter()
        names = (
            "groups/closed",
            "groups/zero_variance",
            "groups/expired",
            "groups/dropped_overdue",
            "groups/removed",
            "leases/granted",
            "leases/suspended",
            "leases/revoked",
            "wire/rejected",
            "wire/duplicates",
        )
        row: dict[str, Any] = {name: counts[name] for name in names}
        row["tokens/received"] = self.tokens_received
        return {**row, **_outcomes(groups)}


def _outcomes(groups: list[ClosedGroup]) -> dict[str, Any]:
    if not groups:
        return {}
    rewards = np.concatenate([group.rewards for group in groups])
    correct = np.concatenate([group.task_rewards for group in groups])
    lengths = [rollout.num_tokens for group in groups for rollout in group.rollouts]
    by_level: dict[int, list[float]] = defaultdict(list)
    for group in groups:
        by_level[group.prompt.level].extend(group.task_rewards.tolist())
    info = {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "reward/zero_std_frac": float(np.mean([group.zero_variance for group in groups])),
        "accuracy/mean": float(correct.mean()),
        "completion_length/mean": float(np.mean(lengths)),
    }
    for level, values in sorted(by_level.items()):
        info[f"accuracy/level_{level}"] = float(np.mean(values))
    return info
