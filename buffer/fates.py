"""What became of each generated rollout, and how much of it there is by level and by length."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

# Lower edges of the length bins [tokens]: half octaves, from 1 to 2^21.
LENGTH_EDGES = sorted({ceil(2 ** (i / 2)) for i in range(43)})


class Fate(StrEnum):
    """What became of a rollout."""

    TRAINED = "trained"
    MASKED = "masked"
    ZERO_VARIANCE = "dropped_zero_variance"
    OVERDUE = "dropped_overdue"
    CAPACITY = "dropped_capacity"
    TOO_FEW = "dropped_too_few"
    FAILED = "failed"
    EXPIRED = "expired"


GENERATED = "generated"
KINDS = (GENERATED, *Fate)


@dataclass(slots=True)
class Entry:
    """A generated rollout."""

    group_id: int
    level: int
    length: int  # tokens
    fate: Fate | None = None  # None: it waits in the table
    draws: int = 0
    uses: int = 0  # draws that trained some token of it
    trained: int = 0  # tokens, over all draws


class Histogram:
    """Rollouts and tokens by level and by length bin."""

    def __init__(self) -> None:
        self.by_level: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.by_length = [[0, 0] for _ in LENGTH_EDGES]  # rollouts, tokens

    def add(self, entry: Entry, rollouts: int, tokens: int) -> None:
        """Count, or with negative numbers uncount, under the entry's level and length."""
        position = bisect_right(LENGTH_EDGES, entry.length) - 1
        for counts in (self.by_level[entry.level], self.by_length[position]):
            counts[0] += rollouts
            counts[1] += tokens

    @property
    def rollouts(self) -> int:
        return sum(rollouts for rollouts, _ in self.by_length)
