"""One rollout as the buffer knows it: its state, its tokens, and who may add to it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.errors import ProtocolError, Refusal
from async_r1.tasks.protocol import Prompt
from async_r1.types import (
    FinishReason,
    Float32,
    Int32,
    Lease,
    LeaseKind,
    Segment,
    SegmentStatus,
    UInt8,
    VersionSpan,
)
from buffer.token_log import TokenLog

MAX_TOKENS = 2**31 - 1


class RolloutState(StrEnum):
    """`pending` was never leased; `finished` is not scored yet; `failed` could not be scored, and
    `expired` came too late: both leave untrained."""

    PENDING = "pending"
    LEASED = "leased"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    SCORED = "scored"
    FAILED = "failed"
    EXPIRED = "expired"


class Verdict(StrEnum):
    """What became of a segment."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REVOKED = "revoked"


def _nothing(rollout: "Rollout") -> None:
    """Nobody watches."""


# What a segment said beside its arrays, which the rollout has: number of tokens, prefix hash,
# status, finish reason, spans, prefill version, swaps, and whether it had a mask and a prompt.
_Accepted = tuple[
    int, int, SegmentStatus, FinishReason | None, tuple[VersionSpan, ...], int, tuple[int, ...],
    bool, bool,
]  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Rollout:
    """A rollout and its tokens; grows by accepted segments only."""

    rollout_id: int
    group_id: int
    member: int
    prompt: Prompt
    kind: LeaseKind = LeaseKind.GENERATE
    opened_version: int = 0  # at which its group was opened
    state: RolloutState = RolloutState.PENDING
    holder: bytes | None = None
    lease_epoch: int = 0  # of the latest lease; 0: never leased
    leased_version: int = 0  # version known when the latest lease was granted
    suspended_version: int = 0
    finish_reason: FinishReason | None = None
    rewards: dict[str, float] = field(default_factory=dict)
    text: str = ""
    error: str = ""  # why it has no rewards, if it failed
    prompt_ids: Int32 | None = None
    restored: bool = False  # its lease is from before a restart, which may have cost tokens
    swaps: list[int] = field(default_factory=list)
    lease_starts: list[tuple[int, bytes]] = field(default_factory=list)  # offset and holder
    on_lease: "Callable[[Rollout], None]" = field(default=_nothing, repr=False)  # after each lease
    on_free: "Callable[[Rollout], None]" = field(default=_nothing, repr=False)  # it has no holder
    _tokens: TokenLog = field(default_factory=TokenLog)
    _accepted: dict[int, _Accepted] = field(default_factory=dict)  # of this lease, by offset

    @property
    def num_tokens(self) -> int:
        return self._tokens.length

    @property
    def prefix_hash(self) -> int:
        return self._tokens.prefix_hash

    @property
    def spans(self) -> list[list[int]]:
        """Runs of [version, number of tokens]."""
        return self._tokens.runs

    @property
    def accepted(self) -> list[list[Any]]:
        """What is known of this lease's segments, plain: so that repetitions are told."""
        return [
            [offset, count, hashed, status.value, reason.value if reason else "",
             [[span.policy_version, span.num_tokens] for span in spans], *rest]
            for offset, (count, hashed, status, reason, spans, *rest) in self._accepted.items()
        ]  # fmt: skip

    def load(self, tokens: Segment, accepted: list[list[Any]]) -> None:
        """Take all tokens at once, and what `accepted` said."""
        self._tokens.append(tokens)
        for offset, count, hashed, status, reason, spans, prefill, swaps, *had in accepted:
            self._accepted[offset] = (
                count, hashed, SegmentStatus(status), FinishReason(reason) if reason else None,
                tuple(VersionSpan(*span) for span in spans), prefill, tuple(swaps), *had,
            )  # fmt: skip

    @property
    def token_ids(self) -> Int32:
        """Tokens so far [T]."""
        return self._tokens.token_ids

    @property
    def logprobs(self) -> Float32:
        """Behaviour log-probs so far [T]."""
        return self._tokens.logprobs

    @property
    def versions(self) -> Int32:
        """Policy version of each token so far [T]."""
        return self._tokens.versions

    @property
    def mask(self) -> UInt8:
        """1 where the policy sampled the token [T]."""
        return self._tokens.mask

    @property
    def oldest_version(self) -> int:
        """Of its tokens; before the first, the version at which it was leased."""
        return self._tokens.oldest_version if self.num_tokens else self.leased_version

    @property
    def newest_version(self) -> int:
        """Of its tokens; before the first, the version at which it was leased."""
        return self._tokens.newest_version if self.num_tokens else self.leased_version

    @property
    def truncated(self) -> bool:
        return self.finish_reason is FinishReason.LENGTH

    @property
    def timed_out(self) -> bool:
        """Whether it failed because scoring took too long."""
        return self.error.startswith("took more than")

    @property
    def can_lease(self) -> bool:
        """Whether somebody may take a lease: to sample, to continue, or only to score."""
        return self.state in (RolloutState.PENDING, RolloutState.SUSPENDED) or (
            self.state is RolloutState.FINISHED and self.holder is None
        )

    def accept(
        self, segment: Segment, holder: bytes, version: int, max_tokens: int = MAX_TOKENS
    ) -> Verdict:
        """Take a segment if it is the next of the current lease; `version` is the current one,
        `max_tokens` what the whole rollout may have.

        Raises:
            ProtocolError: it contradicts what was acknowledged; the message names both.
        """
        if segment.lease_epoch != self.lease_epoch or self.state is RolloutState.EXPIRED:
            return Verdict.REVOKED
        known = self._accepted.get(segment.token_offset)
        if known is not None:
            return self._repeated(segment, known)
        if self.state is not RolloutState.LEASED or holder != self.holder:
            return Verdict.REVOKED
        self._check_follows(segment, max_tokens)
        if segment.prompt_ids is not None and self.prompt_ids is None:
            self.prompt_ids = np.array(segment.prompt_ids)
        if not self._accepted and len(segment.token_ids):
            self.lease_starts.append((segment.token_offset, holder))
        self._tokens.append(segment)
        self.swaps.extend(segment.swaps)
        self._accepted[segment.token_offset] = _said(segment)
        if segment.status is SegmentStatus.SUSPENDED:
            self.release(version)
        elif segment.status is SegmentStatus.FINISHED:
            self.state, self.finish_reason = RolloutState.FINISHED, segment.finish_reason
        return Verdict.ACCEPTED

    def score(
        self, lease_epoch: int, rewards: dict[str, float], text: str, error: str = ""
    ) -> Verdict:
        """Take the rewards of a finished rollout, or the error because of which it has none.

        Raises:
            ProtocolError: it is not finished, or was scored otherwise before.
        """
        if lease_epoch != self.lease_epoch or self.state is RolloutState.EXPIRED:
            return Verdict.REVOKED
        if self.state is RolloutState.SUSPENDED:  # taken back before its last segment came
            return Verdict.REVOKED
        if self.state in (RolloutState.SCORED, RolloutState.FAILED):
            if (rewards, error) != (self.rewards, self.error):
                raise ProtocolError(
                    f"rollout {self.rollout_id} was scored {self.error or self.rewards}, got "
                    f"{error or rewards}"
                )
            return Verdict.DUPLICATE
        if self.state is not RolloutState.FINISHED:
            raise ProtocolError(f"rollout {self.rollout_id} is {self.state}, got a score")
        self.state = RolloutState.FAILED if error else RolloutState.SCORED
        self.holder = None
        self.rewards, self.text, self.error = rewards, text, error
        return Verdict.ACCEPTED

    def release(self, version: int) -> None:
        """Take the lease back: its holder died, left, or was told to stop."""
        self.holder = None
        if self.state is RolloutState.LEASED:
            self.state, self.suspended_version = RolloutState.SUSPENDED, version
        self.on_free(self)

    def expire(self) -> None:
        """Leave untrained; whatever still arrives is answered `revoked`."""
        self.state, self.holder = RolloutState.EXPIRED, None

    def settle(self) -> None:
        """Nothing more comes: from now on its tokens are two arrays, whatever they came in."""
        self._accepted.clear()
        self._tokens.merge()

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        valid, problem = self._tokens.check_valid()
        if not valid:
            return False, problem
        if self.state is RolloutState.LEASED and self.holder is None:
            return False, "leased to nobody"
        if self.holder and self.state not in (RolloutState.LEASED, RolloutState.FINISHED):
            return False, f"state {self.state} with holder {self.holder!r}"
        return True, ""

    def _repeated(self, segment: Segment, known: _Accepted) -> Verdict:
        """A segment at an offset that this lease's holder has already sent."""
        part = slice(segment.token_offset, segment.token_offset + known[0])
        has_mask, has_prompt = known[-2:]
        was = _describe(
            known,
            self.token_ids[part],
            self.logprobs[part],
            self.mask[part] if has_mask else None,
            self.prompt_ids if has_prompt else None,
        )
        got = _describe(
            _said(segment),
            segment.token_ids,
            segment.behavior_logprobs,
            segment.mask,
            segment.prompt_ids,
        )
        if was == got:
            return Verdict.DUPLICATE
        raise ProtocolError(
            f"rollout {self.rollout_id} has, at offset {segment.token_offset} of lease "
            f"{self.lease_epoch}, {was}; got {got}",
            Refusal.OTHER_BYTES,
        )

    def _check_follows(self, segment: Segment, max_tokens: int) -> None:
        """Raise ProtocolError unless the segment goes on where this rollout ends."""
        tokens = self._tokens
        if segment.token_offset != tokens.length:
            raise ProtocolError(
                f"rollout {self.rollout_id} has {self.num_tokens} tokens, "
                f"got a segment at offset {segment.token_offset}",
                Refusal.OUT_OF_ORDER,
            )
        if segment.prefix_hash != tokens.prefix_hash:
            raise ProtocolError(
                f"rollout {self.rollout_id} has prefix hash {self.prefix_hash:#x} at offset "
                f"{self.num_tokens}, got a segment upon {segment.prefix_hash:#x}",
                Refusal.OUT_OF_ORDER,
            )
        if (total := tokens.length + len(segment.token_ids)) > max_tokens:
            raise ProtocolError(
                f"rollout {self.rollout_id} would have {total} tokens, more than "
                f"task.max_new_tokens={max_tokens}",
                Refusal.TOO_LONG,
            )
        known, prompt_ids = self.prompt_ids, segment.prompt_ids
        if known is None and prompt_ids is None:
            raise ProtocolError(f"rollout {self.rollout_id} has no prompt tokens yet")
        if known is not None and prompt_ids is not None and not np.array_equal(known, prompt_ids):
            raise ProtocolError(f"rollout {self.rollout_id} was continued from another prompt")
        if segment.status is SegmentStatus.FINISHED and not (
            self.num_tokens or len(segment.token_ids)
        ):
            raise ProtocolError(f"rollout {self.rollout_id} finished without a token")

    def lease(
        self, holder: bytes, *, version: int, seed: int, token_budget: int, max_new_tokens: int,
        temperature: float,
    ) -> Lease:  # fmt: skip
        """Grant the next lease on this rollout to a holder."""
        assert self.can_lease, self.state
        scoring = self.state is RolloutState.FINISHED
        self.lease_epoch += 1
        self.leased_version = version
        self.holder, self.restored = holder, False
        self._accepted.clear()
        if not scoring:
            self.state = RolloutState.LEASED
        self.on_lease(self)
        return Lease(
            rollout_id=self.rollout_id,
            lease_epoch=self.lease_epoch,
            kind=LeaseKind.SCORE if scoring else self.kind,
            group_id=self.group_id,
            member=self.member,
            prompt_id=self.prompt.prompt_id,
            level=self.prompt.level,
            seed=seed,
            token_budget=token_budget,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            finish_reason=self.finish_reason,
            prefix_ids=self.token_ids,
            prefix_hash=self.prefix_hash,
        )


def _said(segment: Segment) -> _Accepted:
    return (
        len(segment.token_ids),
        segment.prefix_hash,
        segment.status,
        segment.finish_reason,
        segment.spans,
        segment.prefill_version,
        segment.swaps,
        segment.mask is not None,
        segment.prompt_ids is not None,
    )


def _describe(said: _Accepted, *arrays: NDArray[Any] | None) -> str:
    """A segment's bytes in a few words that tell it from any other."""
    checksum = zlib.crc32(repr(said).encode())
    for array in arrays:
        if array is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return f"{said[0]} tokens ({said[2]}, checksum {checksum:08x})"
