"""From closed groups to batches: what is kept, what leaves, and when a draw happens."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.errors import TrainingError
from async_r1.types import Batch
from buffer.admission import Admission
from buffer.batches import assemble
from buffer.fates import Fate
from buffer.groups import ClosedGroup, Group
from buffer.rate_limiters import SamplesPerInsert
from buffer.selectors import SELECTORS, Fifo
from buffer.staleness import Left, Staleness
from buffer.stats import BufferStats
from buffer.table import Removed, Table


class Drawing:
    """The table with its admission and staleness rules; no sockets, no clock."""

    def __init__(self, config: Config, stats: BufferStats) -> None:
        buffer, learner = config.buffer, config.learner
        self._config = config
        self._stats = stats
        self._rng = np.random.default_rng([config.seed, 1])
        self._num_batches = 0
        self._barren_quotas = 0
        self._waited_for = -1  # batches drawn when a draw last waited for an overdue group
        self._draws_at: Counter[int] = Counter()  # draws for each version
        # Under `force` tokens of exactly that age are wanted, whatever the leases are bound to.
        oldest = max(config.staleness.eta, config.staleness.force)
        self.staleness = Staleness(oldest, config.staleness.overdue)
        self.admission = Admission(
            groups_per_draw=learner.groups_per_update,
            draws_per_version=learner.updates_per_publish,
            eta=config.staleness.eta,
            refill_max=buffer.refill_max,
            samples_per_insert=buffer.samples_per_insert,
        )
        tolerance = buffer.samples_per_insert_tolerance * learner.groups_per_update
        self.table: Table[ClosedGroup] = Table(
            sampler=SELECTORS[buffer.sampler](),
            remover=Fifo(),
            rate_limiter=SamplesPerInsert(buffer.samples_per_insert, tolerance),
            max_size=buffer.max_size,
            max_times_sampled=buffer.max_times_sampled,
        )
        self.last_drawn: list[ClosedGroup] = []

    def put(self, group: ClosedGroup) -> None:
        """Take a closed group into the table, or let it leave untrained."""
        self._stats.group_closed(group)
        unwanted = group.zero_variance and not self._config.buffer.keep_zero_variance
        if group.untrainable or unwanted:
            if self.admission.closed_untrained(group.group_id):
                self.table.rate_limiter.inserted()
        else:
            self.admission.closed_usable(group.group_id)
            removed = self.table.insert(group.group_id, group)
            if removed is not None:
                self._left_unused(removed, "groups/removed", Fate.CAPACITY)
        self._refund_barren_quotas()

    def check_barren(self) -> None:
        """
        Raises:
            TrainingError: too many batches' worth of groups passed without a usable one.
        """
        if self._barren_quotas >= self._config.buffer.max_unusable_publishes:
            limit = self._config.buffer.max_unusable_publishes
            error = self._stats.last_reward_error
            raise TrainingError(
                f"no usable group in {self._barren_quotas} batches' worth: the rewards of every "
                f"group are equal, or could not be worked out, or all of its tokens overdue. Make "
                f"task.levels easier or harder, raise buffer.group_size, or check the reward "
                f"(buffer.max_unusable_publishes={limit})"
                + (f"; the last reward error: {error}" if error else "")
            )

    def draw(self, version: int, live: list[Group]) -> Batch | None:
        """A batch to train at `version`, or None while it must wait."""
        if self.admission.num_missing:
            return None
        self._drop_overdue(version)
        self._refund_barren_quotas()
        count, slots = self.admission.draw_size(), self.admission.groups_per_draw
        if not count or not self.table.rate_limiter.can_sample(slots):
            return None
        if self.staleness.must_wait(self._left_behind(version, live)):
            if self._waited_for != self._num_batches:
                self._waited_for = self._num_batches
                self._stats.counts["staleness/draws_waited"] += 1
            return None
        draw = self.table.sample(count, self._rng)
        self.table.rate_limiter.sampled(slots - count)
        kept = self.table.items()
        self.admission.drawn([item_id for item_id in draw.item_ids if item_id not in kept])
        self._draws_at[version] += 1
        self.last_drawn = draw.items
        for group in draw.items:
            self._stats.selection.drawn(group.rollouts, version, self.staleness)
        self._barren_quotas = 0
        self._num_batches += 1
        return assemble(
            draw,
            batch_id=self._num_batches,
            policy_version=version,
            staleness=self.staleness,
            info={**self._stats.take_draw_info(), "groups/usable": len(self.table)},
        )

    def earliest_turn(self, version: int) -> int:
        """The version that trains what would close now, if it were drawn next."""
        drawn = sum(count for at, count in self._draws_at.items() if at >= version)
        return version + drawn // self.admission.draws_per_version

    def waits_for(self, version: int, live: list[Group]) -> str:
        """Why there is no batch now, for an error or a person."""
        if missing := self.admission.num_missing:
            return f"{missing} more groups to close; {len(live)} are live"
        if self.staleness.must_wait(self._left_behind(version, live)):
            return f"overdue groups among {len(live)} live ones (staleness.overdue=wait)"
        return "inserts: the sampling ratio is at its tolerance"

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if self.admission.usable != self.table.items().keys():
            return False, f"usable slots {self.admission.usable}, table {list(self.table.items())}"
        return self.table.check_valid()

    def metrics(self) -> dict[str, Any]:
        return {
            "groups/kept": len(self.table),
            "buffer/size": len(self.table),
            "buffer/samples_per_insert": self.table.rate_limiter.ratio,
            "buffer/barren_quotas": self._barren_quotas,
        }

    def _refund_barren_quotas(self) -> None:
        while self.admission.refund_barren_quota():
            self._barren_quotas += 1
            self.table.rate_limiter.uninserted(self.admission.groups_per_draw)

    def _drop_overdue(self, version: int) -> None:
        for group_id, group in self.table.items().items():
            if self.staleness.drops(group, version):
                removed = self.table.remove(group_id)
                self._left_unused(removed, "groups/dropped_overdue", Fate.OVERDUE)

    def _left_unused(self, removed: Removed[ClosedGroup], count: str, fate: Fate) -> None:
        self.admission.became_unusable(removed.item_id, removed.times_sampled)
        self._stats.counts[count] += 1
        self._stats.selection.left(removed.item.rollouts, fate)

    def _left_behind(self, version: int, live: list[Group]) -> Iterator[Left]:
        """In lease order, what a draw now would leave behind, and when its turn comes."""
        per_version, slots = self.admission.draws_per_version, self.admission.groups_per_draw
        oldest = {group.group_id: (True, group.oldest_version) for group in live}
        for group_id, group in self.table.items().items():
            oldest[group_id] = (False, group.oldest_version)
        turns = sorted((oldest.keys() | self.admission.closed) - set(self.admission.quota()))
        for position, group_id in enumerate(turns):
            if group_id in oldest:
                draws = self._draws_at[version] + 1 + position // slots
                yield Left(*oldest[group_id], consumed_at=version + draws // per_version)
