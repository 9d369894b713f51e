"""The lease book: all open groups and rollouts, and which rollout is leased next."""

from collections.abc import Callable, Iterator
from enum import IntEnum

from async_r1.tasks.protocol import Prompt
from async_r1.types import EVAL_GROUP, LeaseKind
from buffer.groups import Group
from buffer.rollout import Rollout, RolloutState


class _Rank(IntEnum):
    """Rollouts that may be leased, by who goes first."""

    EVAL = 0
    UNSCORED = 1
    ELIGIBLE = 2  # suspended
    PENDING = 3
    INELIGIBLE = 4  # suspended; a new group goes before it


def _rank(rollout: Rollout, version: int) -> _Rank:
    if rollout.kind is LeaseKind.EVAL:
        return _Rank.EVAL
    if rollout.state is RolloutState.FINISHED:
        return _Rank.UNSCORED
    if rollout.state is RolloutState.PENDING:
        return _Rank.PENDING
    return _Rank.ELIGIBLE if rollout.suspended_version < version else _Rank.INELIGIBLE


class LeaseBook:
    """Rollouts that are not closed yet, by id; ids grow and are never reused."""

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self._next_rollout = 0
        self._next_group = 0
        self.rollouts: dict[int, Rollout] = {}
        self.groups: dict[int, Group] = {}

    @property
    def num_live(self) -> int:
        """Open groups."""
        return len(self.groups)

    def open_group(self, prompt: Prompt, version: int, now: float, prompt_index: int = -1) -> Group:
        """Open a group of pending rollouts on a prompt."""
        members = [
            self._new(prompt, LeaseKind.GENERATE, self._next_group, member)
            for member in range(self._group_size)
        ]
        group = Group(
            group_id=self._next_group,
            prompt=prompt,
            members=members,
            opened_version=version,
            opened_at=now,
            prompt_index=prompt_index,
        )
        self._next_group += 1
        self.groups[group.group_id] = group
        return group

    def open_eval(self, prompts: list[Prompt]) -> list[Rollout]:
        """Pending rollouts for evaluation, one per prompt."""
        return [
            self._new(prompt, LeaseKind.EVAL, EVAL_GROUP, index)
            for index, prompt in enumerate(prompts)
        ]

    def close(self, rollouts: list[Rollout]) -> None:
        """Forget rollouts; what still arrives for them is answered `revoked`."""
        for rollout in rollouts:
            del self.rollouts[rollout.rollout_id]

    def close_group(self, group_id: int) -> None:
        self.close(self.groups.pop(group_id).members)

    def next(self, version: int, open_group: Callable[[], Group | None]) -> Rollout | None:
        """The rollout to lease now, or None.

        Evaluation first, then rollouts that only lack a score, then suspended ones that became
        eligible (oldest first), then members never leased, then a new group. A suspended rollout
        is eligible once the version advanced, or when nothing else can be leased.
        """
        first: dict[_Rank, Rollout] = {}
        for rollout in self.rollouts.values():
            if rollout.can_lease:
                first.setdefault(_rank(rollout, version), rollout)
        best = min(first, default=_Rank.INELIGIBLE)
        if best < _Rank.INELIGIBLE:
            return first[best]
        if group := open_group():
            return group.members[0]
        return first.get(_Rank.INELIGIBLE)

    def held_by(self, holder: bytes) -> Iterator[Rollout]:
        """Rollouts that a peer samples or scores."""
        return (rollout for rollout in list(self.rollouts.values()) if rollout.holder == holder)

    def _new(self, prompt: Prompt, kind: LeaseKind, group_id: int, member: int) -> Rollout:
        rollout = Rollout(
            rollout_id=self._next_rollout,
            group_id=group_id,
            member=member,
            prompt=prompt,
            kind=kind,
        )
        self._next_rollout += 1
        self.rollouts[rollout.rollout_id] = rollout
        return rollout
