"""The lease book: all open groups and rollouts, and which rollout is leased next."""

from collections.abc import Callable

from async_r1.tasks.protocol import Prompt
from async_r1.types import EVAL_GROUP, LeaseKind
from buffer.groups import Group
from buffer.lease_queue import LeaseQueue, Rank
from buffer.rollout import Rollout, RolloutState
from buffer.waits import Waits


class LeaseBook:
    """Rollouts that are not closed yet, by id; ids grow and are never reused."""

    def __init__(self, group_size: int, screen: int = 0) -> None:
        """`screen`: members with which a group opens; 0: all of them."""
        self._group_size = group_size
        self._screen = screen or group_size
        self.next_rollout = 0
        self.next_group = 0
        self.rollouts: dict[int, Rollout] = {}
        self.groups: dict[int, Group] = {}
        self.waits = Waits()
        self._queue = LeaseQueue(self.rollouts)
        self._last_holder: dict[int, bytes] = {}  # rollout id: who leased it last
        self._held: dict[bytes, set[int]] = {}  # the same the other way round
        self.on_lease, self.on_free = self._leased, self._freed  # one object for all rollouts

    def was_leased(self, rollout_id: int, lease_epoch: int) -> bool:
        """Whether such a lease was ever granted; of a rollout that left it is taken for granted."""
        rollout = self.rollouts.get(rollout_id)
        if rollout is None:
            return rollout_id < self.next_rollout and lease_epoch > 0
        return 0 < lease_epoch <= rollout.lease_epoch

    @property
    def num_live(self) -> int:
        """Open groups."""
        return len(self.groups)

    def open_group(self, prompt: Prompt, version: int, now: float, prompt_index: int = -1) -> Group:
        """Open a group of pending rollouts on a prompt.

        Those that it may grow by have their ids already: then ids do not depend on which group
        grows first, and lower ids are older wherever they are compared.
        """
        first = self.next_rollout
        self.next_rollout += self._group_size
        members = [
            self._new(first + member, prompt, version, self.next_group, member)
            for member in range(self._screen)
        ]
        group = Group(
            group_id=self.next_group,
            prompt=prompt,
            members=members,
            opened_version=version,
            opened_at=now,
            prompt_index=prompt_index,
            size=self._group_size,
        )
        self.next_group += 1
        self.groups[group.group_id] = group
        return group

    def grow(self, group: Group) -> list[Rollout]:
        """Add the members that a screened group has not got yet; returns them."""
        first = group.members[0].rollout_id
        added = [
            self._new(first + member, group.prompt, group.opened_version, group.group_id, member)
            for member in range(len(group.members), group.size)
        ]
        group.members.extend(added)
        return added

    def open_eval(self, prompts: list[Prompt]) -> list[Rollout]:
        """Pending rollouts for evaluation, one per prompt."""
        first = self.next_rollout
        self.next_rollout += len(prompts)
        return [
            self._new(first + index, prompt, 0, EVAL_GROUP, index)
            for index, prompt in enumerate(prompts)
        ]

    def take(self, group: Group) -> None:
        """Take an open group as it is, from a snapshot."""
        self.groups[group.group_id] = group
        for rollout in group.members:
            self.rollouts[rollout.rollout_id] = rollout
            if rollout.holder is not None:
                self._leased(rollout)
            self._freed(rollout)

    def skip_to(self, *, rollout_id: int = 0, group_id: int = 0) -> None:
        """Give out no ids below these any more."""
        self.next_rollout = max(self.next_rollout, rollout_id)
        self.next_group = max(self.next_group, group_id)

    def close(self, rollouts: list[Rollout]) -> None:
        """Forget rollouts; what still arrives for them is answered `revoked`."""
        for rollout in rollouts:
            rollout.settle()
            del self.rollouts[rollout.rollout_id]
            self._let_go(rollout.rollout_id)
            self.waits.left(rollout.rollout_id)

    def close_group(self, group_id: int) -> None:
        self.close(self.groups.pop(group_id).members)

    def next(self, version: int, open_group: Callable[[], Group | None]) -> Rollout | None:
        """The rollout to lease now, or None.

        Evaluation first, then rollouts that only lack a score, then suspended ones that are
        eligible (oldest first), then members never leased, then a new group. A suspended rollout
        is eligible once the version has advanced since its group was opened, or when nothing else
        can be leased. (Since its suspension would let a long rollout fall behind by a version at
        every lease: in simulation twice as many tokens were overdue, docs/architecture.md.)
        """
        found = self._queue.first(version)
        if found is not None and found[0] < Rank.INELIGIBLE:
            return found[1]
        if group := open_group():
            return group.members[0]
        return found[1] if found is not None else None

    def held_by(self, holder: bytes) -> list[Rollout]:
        """Rollouts that a peer samples or scores, oldest first."""
        leased = [self.rollouts[rollout_id] for rollout_id in sorted(self._held.get(holder, ()))]
        return [rollout for rollout in leased if rollout.holder == holder]

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        members = {r.rollout_id for group in self.groups.values() for r in group.members}
        evals = {r.rollout_id for r in self.rollouts.values() if r.kind is LeaseKind.EVAL}
        if self.rollouts.keys() != members | evals:
            return False, f"rollouts {list(self.rollouts)} are no members of open groups"
        held = {r.rollout_id: r.holder for r in self.rollouts.values() if r.holder is not None}
        wrong = {i: peer for i, peer in held.items() if i not in self._held.get(peer, ())}
        return (False, f"held but not listed: {wrong}") if wrong else (True, "")

    def _leased(self, rollout: Rollout) -> None:
        assert rollout.holder is not None
        self.waits.leased(rollout.rollout_id, rollout.leased_version)
        self._let_go(rollout.rollout_id)
        self._last_holder[rollout.rollout_id] = rollout.holder
        self._held.setdefault(rollout.holder, set()).add(rollout.rollout_id)

    def _freed(self, rollout: Rollout) -> None:
        if rollout.can_lease:
            self._queue.push(rollout)
        if rollout.state is RolloutState.SUSPENDED and rollout.kind is not LeaseKind.EVAL:
            self.waits.suspended(rollout.rollout_id, rollout.suspended_version)

    def _let_go(self, rollout_id: int) -> None:
        holder = self._last_holder.pop(rollout_id, None)
        if holder is not None:
            self._held[holder].remove(rollout_id)
            if not self._held[holder]:
                del self._held[holder]

    def _new(
        self, rollout_id: int, prompt: Prompt, opened_version: int, group_id: int, member: int
    ) -> Rollout:
        rollout = Rollout(
            rollout_id=rollout_id,
            group_id=group_id,
            member=member,
            prompt=prompt,
            kind=LeaseKind.EVAL if group_id == EVAL_GROUP else LeaseKind.GENERATE,
            opened_version=opened_version,
            on_lease=self.on_lease,
            on_free=self.on_free,
        )
        self.rollouts[rollout_id] = rollout
        self._queue.push(rollout)
        return rollout
