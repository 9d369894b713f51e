"""Selection bias: what was generated, what became of it, and how far what trains differs from it.

Every rollout that sampled a token is *generated* when its group closes, and then has one fate:
*trained* (a draw took it with a token inside the staleness bound), *masked* (drawn, all tokens
overdue), *dropped* (zero variance, overdue, capacity, too few rewards), *failed* (no reward) or
*expired* (its group closed without it; its length so far counts). Dropping what is late prefers
short and easy rollouts, and so biases what is learned: hence distributions of each by length and
by level, and Kolmogorov-Smirnov distances between generated and trained (see `ks`).

Groups without variance leave on purpose. The distances are therefore given over everything
generated, and `/with_variance`, without those groups: that one is due to deadlines, staleness,
capacity and priorities, and the warning goes by it.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from buffer.fates import GENERATED, KINDS, Entry, Fate, Histogram
from buffer.groups import ClosedGroup, Group
from buffer.rollout import Rollout, RolloutState
from buffer.selection_metrics import biased, distributions, warning, window_metrics
from buffer.staleness import Staleness

log = logging.getLogger("buffer")

WARN_EVERY = 50  # versions between two warnings


class Selection:
    """Counts rollouts and tokens by fate, level and length, since the start and in a window.

    The window holds the last `window` rollouts whose fate is known, so that what still waits in
    the table is no difference between generated and trained. Distances are exact over the window.
    """

    def __init__(
        self, *, window: int = 4096, ks_warn: float = 1.0, keep_zero_variance: bool = False
    ) -> None:
        self._size = window
        self._ks_warn = ks_warn
        self._keep_zero_variance = keep_zero_variance
        self._waiting: dict[int, Entry] = {}  # by rollout id
        self._window: dict[int, Entry] = {}  # oldest decision first
        self._total = {kind: Histogram() for kind in KINDS}
        self._since_row: Counter[str] = Counter()
        self._warned_at: int | None = None  # version
        self._left: dict[str, list[int]] = {}  # rollouts, by why, since `take_left`

    def closed(self, group: Group, closed: ClosedGroup) -> None:
        """A group closed; members that did not sample a token do not count."""
        unwanted = closed.zero_variance and not self._keep_zero_variance
        for rollout in group.members:
            if not rollout.num_tokens:
                continue
            entry = Entry(group.group_id, rollout.prompt.level, rollout.num_tokens)
            self._count(GENERATED, entry, 1, entry.length)
            self._waiting[rollout.rollout_id] = entry
            if rollout.state is RolloutState.FAILED:
                self._leave(rollout.rollout_id, Fate.FAILED)
            elif closed.overdue:
                self._leave(rollout.rollout_id, Fate.OVERDUE)
            elif rollout.state is not RolloutState.SCORED:
                self._leave(rollout.rollout_id, Fate.EXPIRED)
            elif closed.too_few:
                self._leave(rollout.rollout_id, Fate.TOO_FEW)
            elif unwanted or closed.screened_out:
                self._leave(rollout.rollout_id, Fate.ZERO_VARIANCE)

    def drawn(self, rollouts: Iterable[Rollout], version: int, staleness: Staleness) -> None:
        """A draw for `version` took rollouts from the table."""
        for rollout in rollouts:
            trained, overdue = _divide(rollout, version, staleness)
            entry = self._known(rollout)
            entry.draws += 1
            entry.uses += trained > 0
            entry.trained += trained
            if rollout.rollout_id in self._waiting:
                self._decide(rollout.rollout_id, Fate.TRAINED if trained else Fate.MASKED, 0)
            self._count(Fate.TRAINED, entry, 0, trained)
            self._count(Fate.MASKED, entry, 0, overdue)

    def refunded(self, rollouts: Iterable[Rollout], version: int, staleness: Staleness) -> None:
        """No step acknowledged a draw for `version`: its rollouts are in the table again."""
        for rollout in rollouts:
            trained, overdue = _divide(rollout, version, staleness)
            entry = self._known(rollout)
            entry.draws -= 1
            entry.uses -= trained > 0
            entry.trained -= trained
            self._count(Fate.TRAINED, entry, 0, -trained)
            self._count(Fate.MASKED, entry, 0, -overdue)
            if not entry.draws and rollout.rollout_id in self._window:
                assert entry.fate is not None
                self._count(entry.fate, entry, -1, 0)
                self._waiting[rollout.rollout_id] = self._window.pop(rollout.rollout_id)
                entry.fate = None

    def left(self, rollouts: Iterable[Rollout], fate: Fate) -> None:
        """Rollouts left the table; for those that no draw ever took this is their fate."""
        for rollout in rollouts:
            if rollout.rollout_id in self._waiting:
                self._leave(rollout.rollout_id, fate)

    def take_left(self) -> dict[str, list[int]]:
        """Rollouts that left the table, or never came in, since the last call, by their fate: what
        the journal says of them."""
        left, self._left = self._left, {}
        return left

    def take_row(self, version: int) -> dict[str, Any]:
        """The metrics; counts are since the last row. Warns if the window is biased."""
        since, self._since_row = self._since_row, Counter()
        row: dict[str, Any] = {}
        for kind in KINDS:
            row[f"selection/{kind}_rollouts"] = since[f"{kind}_rollouts"]
            row[f"selection/{kind}_tokens"] = since[f"{kind}_tokens"]
        row["selection/waiting_rollouts"] = len(self._waiting)
        entries = list(self._window.values())
        row |= window_metrics(entries)
        row |= distributions(self._total)
        name = biased(row, self._ks_warn)
        row["selection/biased"] = int(bool(name))
        if name and (self._warned_at is None or version - self._warned_at >= WARN_EVERY):
            self._warned_at = version
            log.warning("%s", warning(name, row, entries, self._ks_warn))
        return row

    def skip_row(self) -> None:
        """A row that was written before a restart: the counts begin again, nothing is judged."""
        self._since_row = Counter()

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        fates = {fate: self._total[fate].rollouts for fate in Fate}
        generated = self._total[GENERATED].rollouts
        if generated != len(self._waiting) + sum(fates.values()):
            return False, f"{generated} generated, {len(self._waiting)} waiting, {fates}"
        if self._waiting.keys() & self._window.keys():
            return False, "a rollout waits and has left"
        if len(self._window) > self._size:
            return False, f"{len(self._window)} rollouts in a window of {self._size}"
        if any(n < 0 for h in self._total.values() for counts in h.by_length for n in counts):
            return False, "a negative count"
        return True, ""

    def state_dict(self) -> dict[str, Any]:
        kept = [*self._waiting.items(), *self._window.items()]
        fates = list(Fate)
        rows = [
            [
                *(i, e.group_id, e.level, e.length, fates.index(e.fate) if e.fate else -1),
                *(e.draws, e.uses, e.trained),
            ]
            for i, e in kept
        ]
        total = {
            kind: {
                "by_level": [[level, *counts] for level, counts in histogram.by_level.items()],
                "by_length": [list(counts) for counts in histogram.by_length],
            }
            for kind, histogram in self._total.items()
        }
        return {
            "entries": np.asarray(rows, np.int64).ravel(),
            "total": total,
            "since_row": dict(self._since_row),
            "warned_at": -1 if self._warned_at is None else self._warned_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        fates = list(Fate)
        self._waiting, self._window = {}, {}
        for row in np.asarray(state["entries"], np.int64).reshape(-1, 8).tolist():
            rollout_id, group_id, level, length, fate, draws, uses, trained = row
            known = None if fate < 0 else fates[fate]
            entry = Entry(group_id, level, length, known, draws, uses, trained)
            (self._waiting if known is None else self._window)[rollout_id] = entry
        for kind, histogram in self._total.items():
            values = state["total"][kind]
            histogram.by_level.clear()
            for level, rollouts, tokens in values["by_level"]:
                histogram.by_level[level] = [rollouts, tokens]
            histogram.by_length = [list(counts) for counts in values["by_length"]]
        self._since_row = Counter(state["since_row"])
        self._warned_at = None if state["warned_at"] < 0 else state["warned_at"]

    def _known(self, rollout: Rollout) -> Entry:
        """Its entry; one that the window has forgotten counts in the totals only."""
        key = rollout.rollout_id
        entry = self._waiting.get(key) or self._window.get(key)
        return entry or Entry(rollout.group_id, rollout.prompt.level, rollout.num_tokens)

    def _leave(self, rollout_id: int, fate: Fate) -> None:
        entry = self._waiting[rollout_id]
        if fate not in (Fate.FAILED, Fate.EXPIRED):
            self._left.setdefault(str(fate), []).append(rollout_id)
        self._decide(rollout_id, fate, entry.length)

    def _decide(self, rollout_id: int, fate: Fate, tokens: int) -> None:
        entry = self._waiting.pop(rollout_id)
        entry.fate = fate
        self._count(fate, entry, 1, tokens)
        self._window[rollout_id] = entry
        if len(self._window) > self._size:
            del self._window[next(iter(self._window))]

    def _count(self, kind: str, entry: Entry, rollouts: int, tokens: int) -> None:
        self._total[kind].add(entry, rollouts, tokens)
        self._since_row[f"{kind}_rollouts"] += rollouts
        self._since_row[f"{kind}_tokens"] += tokens


def _divide(rollout: Rollout, version: int, staleness: Staleness) -> tuple[int, int]:
    """Tokens of a rollout that train at a version, and those that are overdue then; what the
    policy did not sample is neither."""
    sampled = rollout.mask
    if version - rollout.oldest_version <= staleness.eta:
        return int(sampled.sum()), 0
    inside = staleness.mask(rollout.versions, version)
    return int((sampled & inside).sum()), int((sampled & (1 - inside)).sum())
