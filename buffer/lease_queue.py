"""Which rollout is leased next: one heap per rank, with entries that die where they lie.

A rollout enters when it may be leased; whatever happens to it afterwards is found out when its
entry comes to the top. So every operation costs the logarithm of what waits, and the order is that
of a sort over all rollouts (`tests/buffer/naive_leasing.py` is that sort).
"""

import heapq
from collections.abc import Mapping
from enum import IntEnum

from async_r1.types import LeaseKind
from buffer.rollout import Rollout, RolloutState


class Rank(IntEnum):
    """Rollouts that may be leased, by who goes first."""

    EVAL = 0
    UNSCORED = 1
    ELIGIBLE = 2  # suspended, of a group that an earlier version opened
    PENDING = 3
    INELIGIBLE = 4  # suspended, of this version's groups: a new group goes before it


def rank_of(rollout: Rollout, version: int) -> Rank:
    """Rank of a rollout that may be leased."""
    if rollout.kind is LeaseKind.EVAL:
        return Rank.EVAL
    if rollout.state is RolloutState.FINISHED:
        return Rank.UNSCORED
    if rollout.state is RolloutState.PENDING:
        return Rank.PENDING
    return Rank.ELIGIBLE if rollout.opened_version < version else Rank.INELIGIBLE


class LeaseQueue:
    """Rollouts that may be leased, by rank, and in one rank by id: the oldest first."""

    def __init__(self, rollouts: Mapping[int, Rollout]) -> None:
        """`rollouts`: those that are not closed, by id; kept up to date by their owner."""
        self._rollouts = rollouts
        self._heaps: dict[Rank, list[int]] = {rank: [] for rank in Rank}
        self._version = 0

    def push(self, rollout: Rollout) -> None:
        """A rollout may be leased from now on."""
        rank = rank_of(rollout, self._version)
        heapq.heappush(self._heaps[rank], rollout.rollout_id)

    def first(self, version: int) -> tuple[Rank, Rollout] | None:
        """The first rollout and its rank; it stays until it is leased or closed."""
        self._advance(version)
        for rank, heap in self._heaps.items():
            while heap:
                rollout = self._rollouts.get(heap[0])
                if rollout is not None and self._belongs(rollout, rank):
                    return rank, rollout
                heapq.heappop(heap)
        return None

    def _belongs(self, rollout: Rollout, rank: Rank) -> bool:
        return rollout.can_lease and rank_of(rollout, self._version) is rank

    def _advance(self, version: int) -> None:
        """A new version makes those eligible whose groups were opened before it."""
        if version == self._version:
            return
        assert version > self._version, (version, self._version)
        self._version = version
        waiting, self._heaps[Rank.INELIGIBLE] = self._heaps[Rank.INELIGIBLE], []
        for rollout_id in set(waiting):
            rollout = self._rollouts.get(rollout_id)
            if rollout is not None and rollout.can_lease:
                self.push(rollout)
