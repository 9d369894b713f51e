"""Admission: how many groups may be in the system, so that staleness is bounded at the lease.

Every draw consumes B slots: the B groups that closed first and were not consumed yet. Those of
them that left untrained (zero variance, overdue) make the batch short. A group leased while fewer
than `(v + eta + 1) * U * B` slots are spent or occupied before it is consumed at the latest by the
last draw of version v + eta, given use-once and consumption in lease order (U draws per version;
docs/architecture.md has the proof). The form is AReaL's (arXiv 2505.24298, section 5.1).
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any


@dataclass(slots=True)
class Admission:
    """Slots of groups: spent by draws, closed and waiting for one, or refunded by refills."""

    groups_per_draw: int  # B
    draws_per_version: int  # U
    eta: int
    refill_max: int
    samples_per_insert: float = 1.0
    spent: int = 0
    refills: int = 0
    _closed: deque[bool] = field(default_factory=deque)  # in order of closing; True: usable

    def admits(self, *, version: int, live: int) -> bool:
        """Whether one more group may be leased at `version`, with `live` open ones."""
        horizon = (version + self.eta + 1) * self.draws_per_version * self.groups_per_draw
        occupied = live + len(self._closed)
        return occupied < (horizon - self.spent) / self.samples_per_insert

    def closed_usable(self) -> None:
        """A group closed and can be drawn."""
        self._closed.append(True)

    def closed_untrained(self) -> None:
        """A group closed and leaves untrained.

        A refill gives its slot back at once, at most `refill_max * B` times between two draws;
        otherwise the slot waits for a draw, which it makes short.
        """
        if self.refills < self.refill_max * self.groups_per_draw:
            self.refills += 1
        else:
            self._closed.append(False)

    def became_unusable(self) -> None:
        """A usable group left without being drawn; its slot still belongs to a draw."""
        self._closed[self._closed.index(True)] = False

    def draw_size(self) -> int:
        """Usable groups among the next B slots; 0 while fewer than B groups have closed, and
        for a barren quota."""
        if len(self._closed) < self.groups_per_draw:
            return 0
        return sum(islice(self._closed, self.groups_per_draw))

    @property
    def num_missing(self) -> int:
        """Groups that must close before the next draw."""
        return max(0, self.groups_per_draw - len(self._closed))

    def drawn(self, num_kept: int = 0) -> None:
        """A draw took its slots; `num_kept` of its groups stay for further draws."""
        self._take_quota()
        self._closed.extend([True] * num_kept)
        self.spent += self.groups_per_draw
        self.refills = 0

    def refund_barren_quota(self) -> bool:
        """Give the next B slots back if none is usable; whether they were.

        Without it, a system whose every group has zero variance would wait for ever.
        """
        if len(self._closed) < self.groups_per_draw or self.draw_size():
            return False
        self._take_quota()
        return True

    def _take_quota(self) -> None:
        for _ in range(self.groups_per_draw):
            self._closed.popleft()

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent, "refills": self.refills, "closed": list(self._closed)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.spent = int(state["spent"])
        self.refills = int(state["refills"])
        self._closed = deque(bool(usable) for usable in state["closed"])
