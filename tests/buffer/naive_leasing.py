"""Leasing the slow way: sorts and searches over everybody, as the rules read."""

from async_r1.types import EVAL_GROUP
from buffer.lease_book import LeaseBook
from buffer.rollout import Rollout, RolloutState


def naive_next(book: LeaseBook, version: int, can_open: bool) -> tuple[str, int] | None:
    """The rule as a list of lists."""
    lists: list[list[Rollout]] = [[], [], [], [], []]
    for rollout in sorted(book.rollouts.values(), key=lambda rollout: rollout.rollout_id):
        if rollout.state in (RolloutState.LEASED, RolloutState.SCORED, RolloutState.EXPIRED):
            continue
        if rollout.state is RolloutState.FINISHED and rollout.holder is not None:
            continue
        if rollout.group_id == EVAL_GROUP:
            lists[0].append(rollout)
        elif rollout.state is RolloutState.FINISHED:
            lists[1].append(rollout)
        elif rollout.state is RolloutState.PENDING:
            lists[3].append(rollout)
        elif book.groups[rollout.group_id].opened_version < version:
            lists[2].append(rollout)
        else:
            lists[4].append(rollout)
    for candidates in lists[:4]:
        if candidates:
            return "rollout", candidates[0].rollout_id
    if can_open:
        return "new", 0
    return ("rollout", lists[4][0].rollout_id) if lists[4] else None


class NaiveFreeSlots:
    """Actors in the order in which they joined, each with [free slots, leases sent]."""

    def __init__(self) -> None:
        self.actors: dict[bytes, list[int]] = {}

    def join(self, peer: bytes) -> None:
        self.actors.setdefault(peer, [0, 0])

    def leave(self, peer: bytes) -> None:
        self.actors.pop(peer, None)

    def requested(self, peer: bytes, free: int, received: int) -> None:
        granted = max(self.actors[peer][1], received)
        self.actors[peer] = [free - (granted - received), granted]

    def granted(self, peer: bytes, count: int) -> None:
        free, granted = self.actors[peer]
        self.actors[peer] = [free - count, granted + count]

    def emptiest(self) -> bytes | None:
        best = None
        for peer, (free, _) in self.actors.items():
            if free > 0 and (best is None or free > self.actors[best][0]):
                best = peer
        return best
