"""Admission: how many groups may be in the system, so that staleness is bounded at the lease.

A draw trains at version v; there are U draws per version. Every draw consumes B slots: of the
groups that closed and were not consumed yet, the B that were leased first. Those of them that left
untrained (zero variance, too few rewards, overdue) make the batch short. A group leased while fewer
than `(v + eta + 1) * U * B` slots were given out is consumed at the latest by the last draw of
version v + eta, given use-once and consumption in lease order (docs/architecture.md has the
proof). The form is AReaL's (arXiv 2505.24298, section 5.1).
"""

from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Admission:
    """Slots of groups: given out by leases, consumed by draws, or given back untrained."""

    groups_per_draw: int  # B
    draws_per_version: int  # U
    eta: int
    refill_max: int
    samples_per_insert: float = 1.0
    slots_per_group: int = 1  # G, if rollouts are drawn one by one: all numbers are theirs then
    leased: float = 0.0  # slots given out and not given back
    refills: int = 0  # since the last draw
    live: int = 0  # slots of groups that were leased and have not closed
    evicted: float = 0.0  # slots that a full table gave up, not given back
    _closed: dict[int, bool] = field(default_factory=dict)  # group id: whether it can be drawn
    _order: list[int] = field(default_factory=list)  # of their ids, lowest first

    def admits(self, version: int) -> bool:
        """Whether one more group may be leased at `version`."""
        horizon = (version + self.eta + 1) * self.draws_per_version * self.groups_per_draw
        return self.leased < horizon / self.samples_per_insert

    def opened(self) -> None:
        """A group was leased."""
        self.leased += self.slots_per_group
        self.live += self.slots_per_group

    def closed_usable(self, group_id: int) -> None:
        """A group closed and can be drawn."""
        self.live -= 1
        self._close(group_id, True)

    def closed_untrained(self, group_id: int) -> bool:
        """A group closed and leaves untrained; whether its slot waits for a draw.

        A refill gives its slot back at once, at most `refill_max * B` times between two draws;
        otherwise the slot waits for a draw, which it makes short.
        """
        self.live -= 1
        if self.refills < self.refill_max * self.groups_per_draw:
            self.refills += 1
            self.leased -= 1
            return False
        self.became_unusable(group_id)
        return True

    def became_unusable(self, group_id: int, times_sampled: int = 0) -> None:
        """A group left without being drawn (again); one slot of it still belongs to a draw, unless
        it has served all of its draws.

        Draws that it was to serve beyond that one are given back.
        """
        if times_sampled >= self.samples_per_insert:
            self._forget(group_id)
            return
        self._close(group_id, False)
        lost = max(0.0, self.samples_per_insert - times_sampled - 1)
        self.leased -= lost / self.samples_per_insert

    def gave_up(self, group_id: int, times_sampled: int) -> None:
        """A full table gave a group up for another.

        What it still owed is not given back at once, or groups would be leased, sampled and given
        up in turn for ever; but see `relieve`.
        """
        self._forget(group_id)
        owed = max(0.0, self.samples_per_insert - times_sampled)
        self.evicted += owed / self.samples_per_insert

    def relieve(self) -> None:
        """Give as much back of what a full table gave up as the next draw lacks."""
        lacking = self.groups_per_draw - len(self._closed) - max(0, self.live)
        if lacking > 0 and self.evicted > 0:
            groups = -(-lacking // self.slots_per_group)
            self.leased -= groups * self.slots_per_group
            self.evicted = max(0.0, self.evicted - groups * self.slots_per_group)

    def quota(self) -> list[int]:
        """The groups whose slots the next draw consumes; empty while fewer than B have closed."""
        if len(self._closed) < self.groups_per_draw:
            return []
        return self._order[: self.groups_per_draw]

    def draw_size(self) -> int:
        """Usable groups in the next quota; 0 while there is none."""
        return sum(self._closed[group_id] for group_id in self.quota())

    @property
    def num_missing(self) -> int:
        """Groups that must close before the next draw."""
        return max(0, self.groups_per_draw - len(self._closed))

    @property
    def closed(self) -> set[int]:
        """Groups that closed and whose slots no draw has consumed."""
        return set(self._closed)

    @property
    def usable(self) -> set[int]:
        """Those of them that can be drawn."""
        return {group_id for group_id, usable in self._closed.items() if usable}

    def drawn(self, left: Collection[int]) -> list[int]:
        """A draw consumed its quota; `left` of the drawn groups will not be drawn again.

        Returns the groups of the quota that made it short.
        """
        untrained = [group_id for group_id in self.quota() if not self._closed[group_id]]
        for group_id in (*untrained, *left):
            self._forget(group_id)
        self.refills = 0
        return untrained

    def undrawn(self, left: Collection[int], untrained: Collection[int], gone: int) -> None:
        """Nobody trained a draw: what it consumed waits for another.

        Args:
            left: as in `drawn`; they can be drawn again.
            untrained: what `drawn` returned.
            gone: drawn groups that have left since, and owed more draws; theirs are given back.
        """
        for group_ids, usable in ((left, True), (untrained, False)):
            for group_id in group_ids:
                self._close(group_id, usable)
        self.leased -= gone / self.samples_per_insert

    def refund_barren_quota(self) -> bool:
        """Give the next quota back if nothing in it is usable; whether it was so.

        Without it, a system whose every group has zero variance would wait for ever.
        """
        quota = self.quota()
        if not quota or self.draw_size():
            return False
        for group_id in quota:
            self._forget(group_id)
        self.leased -= len(quota) / self.samples_per_insert
        return True

    def state_dict(self) -> dict[str, Any]:
        closed = [[group_id, usable] for group_id, usable in self._closed.items()]
        return {
            "leased": self.leased,
            "refills": self.refills,
            "live": self.live,
            "evicted": self.evicted,
            "closed": closed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.leased = float(state["leased"])
        self.refills = int(state["refills"])
        self.live = int(state["live"])
        self.evicted = float(state["evicted"])
        self._closed = {int(group_id): bool(usable) for group_id, usable in state["closed"]}
        self._order = sorted(self._closed)

    def _close(self, group_id: int, usable: bool) -> None:
        if group_id not in self._closed:
            insort(self._order, group_id)
        self._closed[group_id] = usable

    def _forget(self, group_id: int) -> None:
        del self._closed[group_id]
        del self._order[bisect_left(self._order, group_id)]
