"""Groups: the G rollouts of one prompt, from their opening to their close."""

from dataclasses import dataclass, field

import numpy as np

from async_r1.advantages import group_centred, is_zero_variance
from async_r1.tasks.protocol import Prompt
from async_r1.types import Float32
from buffer.rollout import Rollout, RolloutState


@dataclass(slots=True, kw_only=True)
class Group:
    """An open group; `members` are its rollouts by index."""

    group_id: int  # in lease order
    prompt: Prompt
    members: list[Rollout]
    opened_version: int
    opened_at: float  # seconds, the buffer's clock

    @property
    def scored(self) -> list[Rollout]:
        return [rollout for rollout in self.members if rollout.state is RolloutState.SCORED]

    @property
    def complete(self) -> bool:
        return len(self.scored) == len(self.members)

    @property
    def oldest_version(self) -> int:
        """Lowest version of any of its tokens, or that it was opened at."""
        started = [rollout for rollout in self.members if rollout.lease_epoch]
        return min([self.opened_version, *(rollout.oldest_version for rollout in started)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedGroup:
    """A group as the table keeps it: scored members, their rewards and advantages.

    `advantages` are centred over all scored members, those included whose tokens are masked or
    dropped later, so that the baseline never depends on what trains.
    """

    group_id: int
    prompt: Prompt
    rollouts: list[Rollout]
    rewards: Float32  # [G] total
    advantages: Float32  # [G]
    oldest_version: int  # of its tokens
    num_expired: int = 0
    zero_variance: bool = False
    task_rewards: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))  # [G]


@dataclass(frozen=True, slots=True)
class ClosePolicy:
    """When a group may close before all members are scored.

    Deadlines count from the opening; 0 disables one.
    """

    min_rollouts: int
    deadline_s: float
    deadline_versions: int

    def may_close(self, group: Group, *, version: int, now: float) -> bool:
        """Whether the group closes now."""
        if group.complete:
            return True
        overdue = (0 < self.deadline_s <= now - group.opened_at) or (
            0 < self.deadline_versions <= version - group.opened_version
        )
        return overdue and len(group.scored) >= self.min_rollouts


def close(group: Group, shuffle: np.random.Generator | None = None) -> ClosedGroup:
    """Close a group: late members expire, rewards become advantages.

    `shuffle` permutes total rewards between the members: the control under which nothing can be
    learned, since reward no longer follows behaviour.
    """
    scored = group.scored
    assert scored, group.group_id
    for rollout in group.members:
        if rollout.state is not RolloutState.SCORED:
            rollout.expire()
    rewards = np.asarray([rollout.rewards["total"] for rollout in scored], dtype=np.float32)
    if shuffle is not None:
        rewards = shuffle.permutation(rewards)
    return ClosedGroup(
        group_id=group.group_id,
        prompt=group.prompt,
        rollouts=scored,
        rewards=rewards,
        advantages=group_centred(rewards),
        oldest_version=min(rollout.oldest_version for rollout in scored),
        num_expired=len(group.members) - len(scored),
        zero_variance=is_zero_variance(rewards),
        task_rewards=np.asarray([r.rewards["task"] for r in scored], dtype=np.float32),
    )
