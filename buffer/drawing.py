"""From closed groups to batches: what is kept, what leaves, and when a draw happens."""

from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.errors import TrainingError
from async_r1.types import Batch
from buffer.admission import Admission
from buffer.batches import assemble
from buffer.groups import ClosedGroup, Group
from buffer.rate_limiters import SamplesPerInsert
from buffer.selectors import SELECTORS, Fifo
from buffer.staleness import Staleness
from buffer.stats import BufferStats
from buffer.table import Table


class Drawing:
    """The table with its admission and staleness rules; no sockets, no clock."""

    def __init__(self, config: Config, stats: BufferStats) -> None:
        buffer, learner = config.buffer, config.learner
        self._config = config
        self._stats = stats
        self._rng = np.random.default_rng([config.seed, 1])
        self._num_batches = 0
        self._barren_quotas = 0
        self.staleness = Staleness(config.staleness.eta, config.staleness.overdue)
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
        if group.zero_variance and not self._config.buffer.keep_zero_variance:
            self.admission.closed_untrained()
        else:
            self.admission.closed_usable()
            if self.table.insert(group.group_id, group) is not None:
                self.admission.became_unusable()
        self._refund_barren_quotas()

    def draw(self, version: int, live: list[Group]) -> Batch | None:
        """A batch to train at `version`, or None while it must wait.

        Raises:
            TrainingError: too many batches' worth of groups passed without a usable one.
        """
        if self._barren_quotas >= self._config.buffer.max_unusable_publishes:
            raise TrainingError(
                f"no usable group in {self._barren_quotas} batches' worth: the rewards of every "
                f"group are equal, or all of its tokens overdue. Make task.levels easier or harder, raise buffer.group_size, "
                f"or check the reward (buffer.max_unusable_publishes="
                f"{self._config.buffer.max_unusable_publishes})"
            )
        self._drop_overdue(version)
        self._refund_barren_quotas()
        if self.staleness.must_wait(live, version):
            return None
        count = self.admission.draw_size()
        if not count or not self.table.rate_limiter.can_sample(count):
            return None
        draw = self.table.sample(count, self._rng)
        kept = self.table.items()
        self.admission.drawn(sum(item_id in kept for item_id in draw.item_ids))
        self.last_drawn = draw.items
        self._barren_quotas = 0
        self._num_batches += 1
        return assemble(
            draw,
            batch_id=self._num_batches,
            policy_version=version,
            staleness=self.staleness,
            info={**self._stats.take_draw_info(), "groups/usable": len(self.table)},
        )

    def waits_for(self, version: int, live: list[Group]) -> str:
        """Why there is no batch now, for an error or a person."""
        if self.staleness.must_wait(live, version):
            return f"overdue groups among {len(live)} live ones (staleness.overdue=wait)"
        missing = self.admission.num_missing
        if missing > 0:
            return f"{missing} more groups to close; {len(live)} are live"
        if not len(self.table):
            return f"a group whose rewards differ; {len(live)} are live"
        return "inserts: the sampling ratio is at its tolerance"

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

    def _drop_overdue(self, version: int) -> None:
        for group_id, group in self.table.items().items():
            if self.staleness.drops(group, version):
                self.table.remove(group_id)
                self.admission.became_unusable()
                self._stats.counts["groups/dropped_overdue"] += 1
