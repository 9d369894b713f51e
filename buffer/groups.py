"""Groups: the G rollouts of one prompt, from their opening to their close."""

from dataclasses import dataclass, field, replace

import numpy as np

from async_r1.advantages import group_centred, is_zero_variance
from async_r1.rewards.length import length_rewards
from async_r1.rewards.weighted import is_right
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
    prompt_index: int = -1  # in the training prompts
    size: int = 0  # members that it grows to, if its screening is promising
    overdue: bool = False  # its oldest token cannot train any more

    @property
    def scored(self) -> list[Rollout]:
        return [rollout for rollout in self.members if rollout.state is RolloutState.SCORED]

    @property
    def num_failed(self) -> int:
        """Members whose reward could not be worked out."""
        return sum(rollout.state is RolloutState.FAILED for rollout in self.members)

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return len(self.scored) + self.num_failed == len(self.members)

    @property
    def oldest_token(self) -> int | None:
        """Lowest version of any of its tokens."""
        started = [rollout.oldest_version for rollout in self.members if rollout.num_tokens]
        return min(started, default=None)

    @property
    def screening(self) -> bool:
        """Whether it has only the members that tell if it is worth the others (SPEED, arXiv
        2506.09016)."""
        return len(self.members) < self.size

    @property
    def promising(self) -> bool:
        """Whether some scored members are right and some are not: there is something to learn."""
        scored = self.scored
        return 0 < sum(is_right(rollout.rewards["task"]) for rollout in scored) < len(scored)

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
    newest_version: int  # the same
    num_expired: int = 0
    zero_variance: bool = False
    too_few: bool = False  # scored members, because others failed: it cannot train
    screened_out: bool = False  # its first members were all right or all wrong: it did not grow
    overdue: bool = False  # it left before its end, since it would have been dropped at the draw
    task_rewards: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))  # [G]
    prompt_index: int = -1  # in the training prompts
    success_rate: float = 0.0  # share of right answers among all scored members

    @property
    def untrainable(self) -> bool:
        """Whether it leaves untrained, whatever its rewards."""
        return self.too_few or self.screened_out or self.overdue

    @property
    def right(self) -> list[bool]:
        """[G] whether each answer counts as right."""
        return [is_right(float(reward)) for reward in self.task_rewards]

    def of_member(self, row: int) -> "ClosedGroup":
        """The group cut down to one of its rollouts, whose advantage stays what it was."""
        one, rollout = slice(row, row + 1), self.rollouts[row]
        return replace(
            self,
            rollouts=[rollout],
            rewards=self.rewards[one],
            advantages=self.advantages[one],
            oldest_version=rollout.oldest_version,
            newest_version=rollout.newest_version,
            task_rewards=self.task_rewards[one],
        )


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
        due = self.is_due(group, version=version, now=now)
        return due and len(group.scored) >= self.min_rollouts

    def may_grow(self, group: Group, *, version: int, now: float) -> bool:
        """Whether a screened group goes on with all its members, rather than close.

        Past a deadline it does not, unless it has too few rewards to train.
        """
        if not (group.screening and group.complete and group.promising):
            return False
        due = self.is_due(group, version=version, now=now)
        return not (due and len(group.scored) >= self.min_rollouts)

    def is_due(self, group: Group, *, version: int, now: float) -> bool:
        """Whether a deadline has passed; it passes for groups in the order of their opening."""
        return (0 < self.deadline_s <= now - group.opened_at) or (
            0 < self.deadline_versions <= version - group.opened_version
        )


def close(
    group: Group,
    shuffle: np.random.Generator | None = None,
    *,
    length_weight: float | None = None,
    min_rollouts: int = 1,
    overdue: bool = False,
) -> ClosedGroup:
    """Close a group: late members expire, rewards become advantages. Failed members are left out,
    as if they had never been leased: a reward of 0 would be a lie about them.

    Args:
        shuffle: permutes total rewards between the members: the control under which nothing can be
            learned, since reward no longer follows behaviour.
        length_weight: of Kimi k1.5's length reward, which is recorded as "length" and added to the
            totals; None: it is not scored.
        min_rollouts: scored members with which a group can train in spite of failures.
        overdue: it leaves now, because a token of it is too old for any draw to come.
    """
    scored, num_failed = group.scored, group.num_failed
    too_few = len(scored) < min(min_rollouts, len(group.members)) and not overdue
    assert scored or num_failed or overdue, group.group_id
    for rollout in group.members:
        if rollout.state not in (RolloutState.SCORED, RolloutState.FAILED):
            rollout.expire()
    if length_weight is not None:
        _add_length_rewards(scored, length_weight)
    rewards = np.asarray([rollout.rewards["total"] for rollout in scored], dtype=np.float32)
    if shuffle is not None:
        rewards = shuffle.permutation(rewards)
    task_rewards = np.asarray([r.rewards["task"] for r in scored], dtype=np.float32)
    return ClosedGroup(
        group_id=group.group_id,
        prompt=group.prompt,
        rollouts=scored,
        rewards=rewards,
        advantages=group_centred(rewards) if scored else rewards,
        oldest_version=min([r.oldest_version for r in scored], default=group.opened_version),
        newest_version=max([r.newest_version for r in scored], default=group.opened_version),
        num_expired=len(group.members) - len(scored) - num_failed,
        zero_variance=not (too_few or overdue) and is_zero_variance(rewards),
        too_few=too_few,
        screened_out=not (too_few or overdue) and group.screening and not group.promising,
        overdue=overdue,
        prompt_index=group.prompt_index,
        task_rewards=task_rewards,
        success_rate=float(np.mean([is_right(float(r)) for r in task_rewards] or [False])),
    )


def _add_length_rewards(scored: list[Rollout], weight: float) -> None:
    rewards = length_rewards(
        [rollout.num_tokens for rollout in scored],
        [is_right(rollout.rewards["task"]) for rollout in scored],
    )
    for rollout, value in zip(scored, rewards, strict=True):
        total = rollout.rewards["total"] + weight * value
        rollout.rewards = {**rollout.rewards, "length": value, "total": total}
