"""From closed groups to batches: what is kept, what leaves, and when a draw happens.

An item is a whole group, with its group id, or, with `buffer.item=rollout`, one scored member, with
`group_id * group_size + member` as id; so ids are in lease order either way. All counting goes by
*slots*: a group has one, or G of them, one for each member that it may have. A draw consumes B
groups' worth of slots, the lowest that are closed; those whose item left untrained, and those of
members without a reward, make the batch short.

The state is a function of five events, each of which is journaled: `put` (a group closed), a draw
(`draw` chooses, `apply` repeats), `refund`, `requested`, and a step that was done (`acknowledged`,
`surprised`, `published`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.errors import TrainingError
from async_r1.types import Batch, Float32
from buffer.admission import Admission
from buffer.batches import assemble
from buffer.fates import Fate
from buffer.groups import ClosedGroup, Group
from buffer.replay import replay_metrics
from buffer.replay.make import make_rate_limiter, make_remover, make_sampler
from buffer.replay.outstanding import Outstanding, Shipped
from buffer.replay.priorities import Priorities
from buffer.staleness import Left, Staleness
from buffer.stats import BufferStats
from buffer.table import Draw, Removed, Table

DRAW_STREAM = 1  # of the run's seed


class Drawing:
    """The table with its admission and staleness rules; no sockets, no clock."""

    def __init__(self, config: Config, stats: BufferStats) -> None:
        buffer, learner = config.buffer, config.learner
        self._config = config
        self._stats = stats
        self._version = 0
        self._num_batches = 0
        self._barren_quotas = 0
        self._waited_for = -1  # batches drawn when a draw last waited for an overdue group
        self._draws_at: Counter[int] = Counter()  # draws for each version
        self._by_rollout = buffer.item == "rollout"
        self._slots = buffer.group_size if self._by_rollout else 1  # of a group
        # Under `force` tokens of exactly that age are wanted, whatever the leases are bound to.
        oldest = max(config.staleness.eta, config.staleness.force)
        self.staleness = Staleness(oldest, config.staleness.overdue)
        self.admission = Admission(
            groups_per_draw=learner.groups_per_update * self._slots,
            draws_per_version=learner.updates_per_publish,
            eta=config.staleness.eta,
            refill_max=buffer.refill_max,
            samples_per_insert=buffer.samples_per_insert,
            slots_per_group=self._slots,
        )
        self.table: Table[ClosedGroup] = Table(
            sampler=make_sampler(config),
            remover=make_remover(config),
            rate_limiter=make_rate_limiter(config, self._slots),
            max_size=buffer.max_size * self._slots,
            max_times_sampled=buffer.max_times_sampled,
        )
        self.priorities = Priorities(config)
        self.outstanding = Outstanding()
        self.last_draw: Draw[ClosedGroup] = Draw([], [], [])

    def put(self, group: ClosedGroup) -> None:
        """Take a closed group into the table, or let it leave untrained."""
        self._stats.group_closed(group)
        unwanted = group.zero_variance and not self._config.buffer.keep_zero_variance
        items = {} if group.untrainable or unwanted else self._items_of(group)
        for slot in self._slots_of(group.group_id):
            if slot in items:
                self._insert(slot, items[slot])
            elif self.admission.closed_untrained(slot):
                self.table.rate_limiter.inserted()
        self._refund_barren_quotas()

    def check_barren(self) -> None:
        """
        Raises:
            TrainingError: too many publishes' worth of groups passed without a usable one.
        """
        limit = self._config.buffer.max_unusable_publishes
        if self._barren_quotas >= limit * self.admission.draws_per_version:
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
        self.requested(version)
        count, slots = self.admission.draw_size(), self.admission.groups_per_draw
        if not count or not self.table.rate_limiter.can_sample(slots):
            return None
        if self._must_wait(version, live):
            if self._waited_for != self._num_batches:
                self._waited_for = self._num_batches
                self._stats.counts["staleness/draws_waited"] += 1
            return None
        rng = np.random.default_rng([self._config.seed, DRAW_STREAM, self._num_batches])
        item_ids, probs = self.table.sampler.select(count, rng)
        sampled = replay_metrics.of_draw(self.table, self.priorities, item_ids)
        probs = probs.astype(np.float32)  # as the journal and the learner have them
        draw = self._take(self._num_batches + 1, version, item_ids, probs.tolist())
        return assemble(
            draw,
            batch_id=self._num_batches,
            policy_version=version,
            staleness=self.staleness,
            info={
                **self._stats.take_draw_info(),
                **sampled,
                "groups/usable": self._num_groups,
            },
            beta=self._beta(version),
        )

    def earliest_turn(self, version: int) -> int:
        """The version that trains what would close now, if it were drawn next."""
        drawn = sum(count for at, count in self._draws_at.items() if at >= version)
        return version + drawn // self.admission.draws_per_version

    def apply(
        self, batch_id: int, version: int, item_ids: list[int], inclusion_probs: list[float]
    ) -> None:
        """What `draw` did when it chose these items."""
        self.requested(version)
        self._stats.take_draw_info()
        self._take(batch_id, version, item_ids, inclusion_probs)

    def assemble_again(self, batch_id: int) -> Batch | None:
        """A batch that was drawn and not acknowledged; its info says nothing but that.

        None: it is not outstanding.
        """
        shipped = self.outstanding.get(batch_id)
        if shipped is None:
            return None
        return assemble(
            shipped.draw,
            batch_id=batch_id,
            policy_version=shipped.version,
            staleness=self.staleness,
            info={"groups/usable": len({i.group_id for i in self.table.items().values()})},
            beta=self._beta(shipped.version),
        )

    def refund(self, batch_id: int) -> None:
        """Nobody trained a batch, and nobody will: its items can be drawn again.

        Raises:
            KeyError: the batch is not outstanding.
        """
        shipped = self.outstanding.refund(batch_id)
        draw, most = shipped.draw, self.table.max_times_sampled
        gone = [
            times
            for item_id, times in zip(draw.item_ids, draw.times_sampled, strict=True)
            if item_id not in self.table and times < most
        ]
        owed = sum(times - 1 < self.admission.samples_per_insert for times in gone)
        self.admission.undrawn(shipped.left, shipped.untrained, owed)
        self.admission.refills += shipped.refills
        self._draws_at[shipped.version] -= 1
        self.table.rate_limiter.unsampled(shipped.slots - len(draw.item_ids))
        weights = {item_id: self.priorities.log_weight(item_id) for item_id in shipped.left}
        for item_id, item in zip(draw.item_ids, draw.items, strict=True):
            if item_id in self.table or item_id in shipped.left:
                self._stats.selection.refunded(item.rollouts, shipped.version, self.staleness)
        for removed in self.table.untake(draw, weights):
            self._left_unused(removed, "groups/removed", Fate.CAPACITY)
        self._stats.counts["replay/refunded"] += 1
        self._drop_overdue()

    def acknowledged(self, batch_id: int) -> None:
        """A step trained a batch; said twice, nothing happens. One that was refunded before counts
        as drawn again."""
        shipped, refunded = self.outstanding.acknowledge(batch_id)
        if shipped is None:
            return
        if refunded:
            here = [
                (item_id, prob)
                for item_id, prob in zip(
                    shipped.draw.item_ids, shipped.draw.inclusion_probs, strict=True
                )
                if item_id in self.table
            ]
            item_ids, probs = [item for item, _ in here], [prob for _, prob in here]
            self._take(batch_id, shipped.version, item_ids, probs)
            shipped = self.outstanding.acknowledge(batch_id)[0]
            assert shipped is not None
        for item_id in shipped.left:
            self.priorities.forget(item_id)

    def surprised(self, item_ids: Sequence[int], surprise: Sequence[float]) -> None:
        """Take the learner's mean |log ratio| of items [n]; those that left are passed over."""
        if not self.priorities.takes_surprise:
            return
        known = self.priorities.surprised(item_ids, surprise)
        here = [item_id for item_id in known if item_id in self.table]
        self.table.update(here, [self.priorities.log_weight(item_id) for item_id in here])

    def priorities_of(self, item_ids: Sequence[int]) -> Float32:
        """Priority of items that were drawn last [n], before age and exponent."""
        return np.asarray([self.priorities.priority(i) for i in item_ids], np.float32)

    def requested(self, version: int) -> None:
        """The next draw trains `version`: what is overdue by then leaves, and quotas that nothing
        in them can train are given back, now that what is leased for them is no older than it."""
        self.published(version)
        self._refund_barren_quotas()

    def published(self, version: int) -> None:
        """No draw trains a version before this one."""
        if version > self._version:
            self._version = version
            self._drop_overdue()

    def waits_for(self, version: int, live: list[Group]) -> str:
        """Why there is no batch now, for an error or a person."""
        if missing := -(-self.admission.num_missing // self._slots):
            return f"{missing} more groups to close; {len(live)} are live"
        if missing := -(-int(self.table.rate_limiter.num_missing) // self._slots):
            return f"{missing} more groups to close before the first batch (buffer.min_size)"
        if self._must_wait(version, live):
            return f"overdue groups among {len(live)} live ones (staleness.overdue=wait)"
        return "inserts: the sampling ratio is at its tolerance"

    def blocked_by(self, version: int) -> str:
        """Why nothing more is leased now, for a warning; empty if something may be."""
        if self.admission.admits(version):
            return ""
        held = ", ".join(map(str, sorted(self.outstanding.batch_ids()))) or "none"
        return (
            f"nothing more is leased before version {version + 1}: "
            f"{self.admission.leased / self._slots:g} groups were leased, {len(self.table)} items "
            f"wait; batches being trained: {held}"
        )

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        if self.admission.usable != self.table.items().keys():
            return False, f"usable slots {self.admission.usable}, table {list(self.table.items())}"
        known = self.table.items().keys() | self.outstanding.items().keys()
        for valid, problem in (self.priorities.check_valid(known), self.table.check_valid()):
            if not valid:
                return False, problem
        return True, ""

    def metrics(self) -> dict[str, Any]:
        return {
            "groups/kept": self._num_groups,
            "buffer/size": len(self.table),
            "buffer/samples_per_insert": self.table.rate_limiter.ratio,
            "buffer/barren_quotas": self._barren_quotas,
            **replay_metrics.of_table(self.table, self.priorities),
        }

    def items(self) -> dict[int, ClosedGroup]:
        """All items by id that the state speaks of: in the table, or drawn and not acknowledged."""
        return {**self.table.items(), **self.outstanding.items()}

    def state_dict(self) -> dict[str, Any]:
        """All but the items themselves."""
        return {
            "version": self._version,
            "num_batches": self._num_batches,
            "barren_quotas": self._barren_quotas,
            "draws_at": [[version, count] for version, count in self._draws_at.items()],
            "admission": self.admission.state_dict(),
            "table": self.table.state_dict(),
            "priorities": self.priorities.state_dict(),
            "outstanding": self.outstanding.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], items: Mapping[int, ClosedGroup]) -> None:
        """`items` are those that `items()` gave, by id."""
        self._version = int(state["version"])
        self._num_batches = int(state["num_batches"])
        self._barren_quotas = int(state["barren_quotas"])
        self._draws_at = Counter({int(version): int(n) for version, n in state["draws_at"]})
        self.admission.load_state_dict(state["admission"])
        self.table.load_state_dict(state["table"], items)
        self.priorities.load_state_dict(state["priorities"])
        self.outstanding.load_state_dict(state["outstanding"], items)

    @property
    def _num_groups(self) -> int:
        """Groups with an item in the table."""
        if not self._by_rollout:
            return len(self.table)
        return len({item_id // self._slots for item_id in self.table.items()})

    def _take(
        self, batch_id: int, version: int, item_ids: list[int], probs: list[float]
    ) -> Draw[ClosedGroup]:
        refills, slots = self.admission.refills, self.admission.groups_per_draw
        draw = self.table.take(item_ids, probs)
        for item in draw.items:
            self._stats.selection.drawn(item.rollouts, version, self.staleness)
        self.table.rate_limiter.sampled(slots - len(item_ids))
        left = [item_id for item_id in item_ids if item_id not in self.table]
        untrained = self.admission.drawn(left)
        self.outstanding.ship(Shipped(batch_id, version, draw, left, untrained, refills, slots))
        self._draws_at[version] += 1
        self._barren_quotas = 0
        self._num_batches = max(batch_id, self._num_batches)
        self.last_draw = draw
        return draw

    def _insert(self, item_id: int, item: ClosedGroup) -> None:
        self.admission.closed_usable(item_id)
        log_weight = self.priorities.insert(item_id, item, self._version)
        if removed := self.table.insert(item_id, item, log_weight):
            self._left_unused(removed, "groups/removed", Fate.CAPACITY)
        if self.staleness.drops(item, self._version):
            removed = self.table.remove(item_id)
            self._left_unused(removed, "groups/dropped_overdue", Fate.OVERDUE)

    def _refund_barren_quotas(self) -> None:
        while self.admission.refund_barren_quota():
            self._barren_quotas += 1
            given_back = self.admission.groups_per_draw / self.admission.samples_per_insert
            self.table.rate_limiter.uninserted(given_back)
        self.admission.relieve()

    def _drop_overdue(self) -> None:
        for item_id, item in self.table.items().items():
            if self.staleness.drops(item, self._version):
                removed = self.table.remove(item_id)
                self._left_unused(removed, "groups/dropped_overdue", Fate.OVERDUE)

    def _left_unused(self, removed: Removed[ClosedGroup], count: str, fate: Fate) -> None:
        left = self.admission.gave_up if fate is Fate.CAPACITY else self.admission.became_unusable
        left(removed.item_id, removed.times_sampled)
        self.priorities.forget(removed.item_id)
        self._stats.counts[count] += 1
        self._stats.selection.left(removed.item.rollouts, fate)

    def _beta(self, version: int) -> float:
        """Of the importance weights; draws that do not go by priority need none."""
        prioritized = self._config.buffer.sampler == "prioritized"
        return self.priorities.beta(version) if prioritized else 0.0

    def _slots_of(self, group_id: int) -> range:
        return range(group_id * self._slots, (group_id + 1) * self._slots)

    def _items_of(self, group: ClosedGroup) -> dict[int, ClosedGroup]:
        if not self._by_rollout:
            return {group.group_id: group}
        first = group.group_id * self._slots
        return {
            first + rollout.member: group.of_member(row)
            for row, rollout in enumerate(group.rollouts)
        }

    def _must_wait(self, version: int, live: list[Group]) -> bool:
        """Whether a draw must wait for a live group; looks at the table only if it might."""
        waits = bool(live) and self.staleness.overdue == "wait"
        return waits and self.staleness.must_wait(self._left_behind(version, live))

    def _left_behind(self, version: int, live: list[Group]) -> Iterator[Left]:
        """In lease order, what a draw now would leave behind, and when its turn comes."""
        per_version, slots = self.admission.draws_per_version, self.admission.groups_per_draw
        oldest = {
            slot: (True, group.oldest_version)
            for group in live
            for slot in self._slots_of(group.group_id)
        }
        for item_id, item in self.table.items().items():
            oldest[item_id] = (False, item.oldest_version)
        turns = sorted((oldest.keys() | self.admission.closed) - set(self.admission.quota()))
        for position, slot in enumerate(turns):
            if slot in oldest:
                draws = self._draws_at[version] + 1 + position // slots
                yield Left(*oldest[slot], consumed_at=version + draws // per_version)
