"""What a journal tells of one lease, rollout, group, draw or step."""

from dataclasses import dataclass, field

Span = tuple[int, int]  # policy version, tokens


@dataclass(slots=True)
class LeaseLine:
    """A lease: who held it, from which token on, and how it ended."""

    rollout_id: int
    lease_epoch: int
    holder: str = ""
    version: int | None = None  # known to the buffer when it was granted
    token_offset: int | None = None  # of its first token; None: it has not sent any
    num_tokens: int = 0
    end: str = ""  # suspended, finished, released; empty: it goes on


@dataclass(slots=True)
class RolloutLine:
    """A rollout, as far as it is known."""

    rollout_id: int
    group_id: int | None = None  # None: its group's record is lost
    member: int | None = None
    num_prompt_tokens: int = 0
    num_segments: int = 0
    spans: list[Span] = field(default_factory=list)  # in token order
    finish_reason: str = ""
    rewards: dict[str, float] = field(default_factory=dict)
    error: str = ""
    text: str = ""
    scored: bool = False
    suspended: bool = False
    left: str = ""  # the fate with which it left the table undrawn, if the journal says so
    leases: dict[int, LeaseLine] = field(default_factory=dict)  # by epoch

    @property
    def num_tokens(self) -> int:
        return sum(count for _, count in self.spans)

    @property
    def versions(self) -> list[int]:
        """Distinct, lowest first."""
        return sorted({version for version, _ in self.spans})

    def lease(self, epoch: int) -> LeaseLine:
        return self.leases.setdefault(epoch, LeaseLine(self.rollout_id, epoch))

    def append(self, token_offset: int, spans: list[Span]) -> None:
        """Add a segment; one that begins before the end replaces what damage had orphaned."""
        kept, left = [], token_offset
        for version, count in self.spans:
            if left > 0:
                kept.append((version, min(count, left)))
            left -= count
        for version, count in spans:
            if kept and kept[-1][0] == version:
                kept[-1] = (version, kept[-1][1] + count)
            else:
                kept.append((version, count))
        self.spans = kept


@dataclass(slots=True)
class GroupLine:
    """A group of rollouts on one prompt."""

    group_id: int
    prompt_id: str = ""
    level: int | None = None
    opened_version: int | None = None
    rollout_ids: list[int] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class DrawLine:
    """A batch that was put together for a version."""

    batch_id: int
    version: int
    item_ids: list[int]
    rollout_ids: list[list[int]]  # of each item
    inclusion_probs: list[float | None]
    priorities: list[float | None]
    step: int | None = None  # that trained it; None: not acknowledged
    refunded: bool = False


@dataclass(slots=True)
class StepLine:
    """An optimizer step that the learner reported."""

    step: int
    policy_version: int
    batch_id: int | None
    trained_tokens: int | None
