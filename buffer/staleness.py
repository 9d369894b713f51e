"""Staleness at consumption: what becomes of tokens older than the bound.

Staleness of a token is the version at which it trains minus the version that sampled it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from async_r1.types import UInt8
from buffer.groups import ClosedGroup, Group

Overdue = Literal["mask", "wait", "drop"]


@dataclass(frozen=True, slots=True)
class Left:
    """A group that a draw would leave behind."""

    live: bool
    oldest_version: int
    consumed_at: int  # version that trains it if every later draw takes groups in lease order


@dataclass(frozen=True, slots=True)
class Staleness:
    """The bound and its last enforcement."""

    eta: int
    overdue: Overdue

    def of(self, versions: NDArray[np.int32], consumed_at: int) -> NDArray[np.int32]:
        """Staleness of each token [T]; 0 for tokens of a version published since the draw."""
        return np.maximum(consumed_at - versions, 0)

    def mask(self, versions: NDArray[np.int32], consumed_at: int) -> UInt8:
        """1 for the suffix that may train [T].

        A token after an overdue one may train (its log-prob is exact given its context); an
        overdue one never does, whatever the policy for whole groups.
        """
        return (self.of(versions, consumed_at) <= self.eta).astype(np.uint8)

    def drops(self, group: ClosedGroup, consumed_at: int) -> bool:
        """Whether a group leaves untrained: nothing of it is inside the bound, or, under `drop`,
        something of it is outside."""
        # The mask is monotone in the version: the oldest token tells of all, the newest of any.
        decisive = group.oldest_version if self.overdue == "drop" else group.newest_version
        return consumed_at - decisive > self.eta

    def overdue_in_flight(self, live: Iterable[Group], earliest_turn: int) -> list[Group]:
        """Groups with a token that is outside the bound even if they are the next to be drawn."""
        found = []
        for group in live:
            oldest = group.oldest_token
            if oldest is not None and earliest_turn - oldest > self.eta:
                found.append(group)
        return found

    def must_wait(self, left: Iterable[Left]) -> bool:
        """Under `wait`: whether a draw must wait for a live group.

        It must when a group that it leaves behind (in lease order) would be overdue at its turn,
        and that one or one before it is live: once closed, it would go first.
        """
        live = False
        for group in left:
            live |= group.live
            if live and group.consumed_at - group.oldest_version > self.eta:
                return self.overdue == "wait"
        return False
