"""Admission: how many groups may be in the system, so that staleness is bounded at the lease.

Draw j (from 0) consumes B group slots and trains version j // U for U draws per version. A group
leased when `spent + kept + live` slots are before it is consumed in draw
`(spent + kept + live) // B`; admitting it only while that is below `(v + eta + 1) * U` bounds its
staleness by eta, given use-once and consumption in lease order (docs/architecture.md has the
proof). The form is AReaL's (arXiv 2505.24298, section 5.1).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Admission:
    """Group slots: spent by draws, held by groups that left untrained, refunded by refills.

    A draw's quota is B slots of groups that closed since. A group that leaves untrained keeps its
    slot until the next draw (`unrefunded`), unless a refill pays for it: at most
    `refill_max * B` between two draws.
    """

    groups_per_draw: int  # B
    draws_per_version: int  # U
    eta: int
    refill_max: int
    samples_per_insert: float = 1.0
    spent: int = 0
    unrefunded: int = 0
    refills: int = 0

    def admits(self, *, version: int, live: int, kept: int) -> bool:
        """Whether one more group may be leased at `version`."""
        horizon = (version + self.eta + 1) * self.draws_per_version * self.groups_per_draw
        occupied = self.spent + kept + live + self.unrefunded
        return occupied < horizon / self.samples_per_insert

    def left_untrained(self) -> None:
        """A group left without training: zero variance, expired, or removed."""
        if self.refills < self.refill_max * self.groups_per_draw:
            self.refills += 1
        else:
            self.unrefunded += 1

    def draw_size(self, usable: int) -> int:
        """How many of the usable groups a draw takes now; 0 while it must wait.

        Slots of groups that left untrained count towards the quota, so a batch goes short
        rather than wait for replacements that were not admitted.
        """
        if usable < 1 or usable + self.unrefunded < self.groups_per_draw:
            return 0
        return min(usable, max(1, self.groups_per_draw - self.unrefunded))

    def drawn(self, count: int) -> None:
        """A draw took `count` groups; the rest of its quota is paid by groups that left."""
        self.unrefunded -= min(self.unrefunded, self.groups_per_draw - count)
        self.spent += self.groups_per_draw
        self.refills = 0

    def refund_barren_quota(self) -> bool:
        """Give a whole quota of groups without a usable one back; whether there was one.

        Without it, a system whose every group has zero variance would wait for ever.
        """
        if self.unrefunded < self.groups_per_draw:
            return False
        self.unrefunded -= self.groups_per_draw
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent, "unrefunded": self.unrefunded, "refills": self.refills}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.spent = int(state["spent"])
        self.unrefunded = int(state["unrefunded"])
        self.refills = int(state["refills"])
