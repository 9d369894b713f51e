"""Options of what is sampled: groups, table and journal; staleness."""

from dataclasses import dataclass, field
from typing import Literal

from async_r1.schema import opt


@dataclass(frozen=True, kw_only=True)
class PriorityConfig:
    """What `sampler=prioritized` and `remover=lowest_priority` go by (docs/replay.md)."""

    factors: list[
        Literal[
            "constant",
            "abs_advantage",
            "length_corrected_advantage",
            "learnability",
            "recency",
            "surprise",
        ]
    ] = opt(["abs_advantage"], doc="whose product is an item's priority")
    alpha: float = opt(0.6, ge=0, doc="exponent of the priority; 0: age and priority do not matter")
    epsilon: float = opt(0.01, gt=0, doc="added to the product, so that nothing is never drawn")
    decay_versions: float = opt(
        8.0, ge=0, doc="age at which the priority fell to 1/e [versions]; 0: it does not age"
    )
    uniform_mix: float = opt(0.1, ge=0, le=1, doc="share of a draw that ignores priorities")
    beta0: float = opt(0.4, ge=0, le=1, doc="exponent of the importance weights at version 0")
    beta1: float = opt(1.0, ge=0, le=1, doc="the same after beta_versions")
    beta_versions: int = opt(0, ge=0, doc="versions of the annealing; 0: all of the run")


@dataclass(frozen=True, kw_only=True)
class BufferConfig:
    """Groups, table and journal."""

    group_size: int = opt(8, ge=1, doc="rollouts per prompt (G)")
    min_rollouts: int = opt(2, ge=1, doc="scored members with which a group may close early")
    group_deadline_s: float = opt(0.0, ge=0, doc="age at which a group closes early; 0: never")
    group_deadline_versions: int = opt(0, ge=0, doc="the same, counted in versions; 0: never")
    keep_zero_variance: bool = opt(False, doc="train groups whose rewards are all equal")
    refill_max: int = opt(0, ge=0, doc="refills of a batch before it goes short")
    max_unusable_publishes: int = opt(
        50, ge=1, doc="publishes' worth of groups without a usable one before the run stops"
    )
    sampler: Literal["fifo", "lifo", "uniform", "prioritized"] = opt(
        "fifo", doc="which items a batch takes"
    )
    remover: Literal["fifo", "lowest_priority"] = opt("fifo", doc="which item leaves a full table")
    item: Literal["group", "rollout"] = opt("group", doc="what is sampled and removed")
    priority: PriorityConfig = field(default_factory=PriorityConfig)
    min_size: int = opt(0, ge=0, doc="closed groups before the first batch")
    max_size: int = opt(4096, ge=1, doc="groups kept")
    max_times_sampled: int = opt(1, ge=1, doc="times an item may be trained")
    samples_per_insert: float = opt(1.0, ge=1, doc="replay ratio")
    samples_per_insert_tolerance: float = opt(1.0, ge=0, doc="slack, in batches")
    wait_timeout_s: float = opt(600.0, gt=0, doc="deadline of a batch request")
    selection_window: int = opt(
        4096, ge=64, doc="rollouts, of known fate, over which selection/ks_* compare"
    )
    selection_ks_warn: float = opt(
        0.1, gt=0, le=1, doc="selection/ks_*/with_variance above which the run warns; 1: never"
    )
    journal: bool = opt(True, doc="write what happens to RUN/journal, and go on from it")
    journal_retention: Literal["compact", "keep"] = opt(
        "compact", doc="compact: a snapshot takes the journal's place when it grows; keep: never"
    )
    journal_max_bytes: int = opt(
        1 << 30, ge=1 << 12, doc="written since the last snapshot before the next one [bytes]"
    )
    fsync: Literal["always", "interval", "off"] = opt(
        "interval", doc="when the journal is forced to the disk; off: when the system likes"
    )
    fsync_interval_s: float = opt(1.0, gt=0, doc="seconds between such times (fsync=interval)")

    @property
    def goes_by_priority(self) -> bool:
        """Whether anything looks at priorities."""
        return self.sampler == "prioritized" or self.remover == "lowest_priority"

    @property
    def needs_surprise(self) -> bool:
        """Whether the learner must write back how far it moved on each item."""
        return self.goes_by_priority and "surprise" in self.priority.factors


@dataclass(frozen=True, kw_only=True)
class StalenessConfig:
    """How old a token may be when it trains, in versions."""

    eta: int = opt(4, ge=0, doc="bound; 0 is synchronous, 1 is one step off-policy")
    overdue: Literal["mask", "wait", "drop"] = opt("mask", doc="what becomes of older tokens")
    force: int = opt(-1, ge=-1, doc="experiments: sample from version v-force exactly; -1: off")
