"""One rollout as the buffer knows it: its state, its tokens, and who may add to it."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from async_r1 import segment_hash
from async_r1.errors import ProtocolError
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
)


class RolloutState(StrEnum):
    """`pending` was never leased; `finished` is not scored yet; `expired` leaves untrained."""

    PENDING = "pending"
    LEASED = "leased"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    SCORED = "scored"
    EXPIRED = "expired"


class Verdict(StrEnum):
    """What became of a segment."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REVOKED = "revoked"


@dataclass(slots=True, kw_only=True)
class Rollout:
    """A rollout and its tokens; grows by accepted segments only."""

    rollout_id: int
    group_id: int
    member: int
    prompt: Prompt
    kind: LeaseKind = LeaseKind.GENERATE
    state: RolloutState = RolloutState.PENDING
    holder: bytes | None = None
    lease_epoch: int = 0  # of the latest lease; 0: never leased
    leased_version: int = 0  # version known when the latest lease was granted
    suspended_version: int = 0
    finish_reason: FinishReason | None = None
    rewards: dict[str, float] = field(default_factory=dict)
    text: str = ""
    prompt_ids: Int32 | None = None
    swaps: list[int] = field(default_factory=list)
    _hash: int = 0
    _num_tokens: int = 0
    _token_ids: list[Int32] = field(default_factory=list)
    _logprobs: list[Float32] = field(default_factory=list)
    _versions: list[Int32] = field(default_factory=list)
    _masks: list[UInt8] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    @property
    def prefix_hash(self) -> int:
        return self._hash

    @property
    def token_ids(self) -> Int32:
        """Tokens so far [T]."""
        return _merged(self._token_ids, np.int32)

    @property
    def logprobs(self) -> Float32:
        """Behaviour log-probs so far [T]."""
        return _merged(self._logprobs, np.float32)

    @property
    def versions(self) -> Int32:
        """Policy version of each token so far [T]."""
        return _merged(self._versions, np.int32)

    @property
    def mask(self) -> UInt8:
        """1 where the policy sampled the token [T]."""
        return _merged(self._masks, np.uint8)

    @property
    def oldest_version(self) -> int:
        """Of its tokens; before the first, the version at which it was leased."""
        if not self._num_tokens:
            return self.leased_version
        return min(int(versions.min()) for versions in self._versions if len(versions))

    @property
    def truncated(self) -> bool:
        return self.finish_reason is FinishReason.LENGTH

    @property
    def can_lease(self) -> bool:
        """Whether somebody may take a lease: to sample, to continue, or only to score."""
        return self.state in (RolloutState.PENDING, RolloutState.SUSPENDED) or (
            self.state is RolloutState.FINISHED and self.holder is None
        )

    def accept(self, segment: Segment, holder: bytes, version: int) -> Verdict:
        """Take a segment if it is the next of the current lease; `version` is the current one.

        Raises:
            ProtocolError: it contradicts what was acknowledged; the message names both.
        """
        if segment.lease_epoch != self.lease_epoch:
            return Verdict.REVOKED
        if self._repeats(segment):
            return Verdict.DUPLICATE
        if self.state is not RolloutState.LEASED or holder != self.holder:
            return Verdict.REVOKED
        if segment.token_offset != self._num_tokens:
            raise ProtocolError(
                f"rollout {self.rollout_id} has {self._num_tokens} tokens, "
                f"got a segment at offset {segment.token_offset}"
            )
        if segment.prefix_hash != self._hash:
            raise ProtocolError(
                f"rollout {self.rollout_id} has prefix hash {self._hash:#x} at offset "
                f"{self._num_tokens}, got a segment upon {segment.prefix_hash:#x}"
            )
        self._take_prompt(segment)
        self._append(segment)
        if segment.status is SegmentStatus.SUSPENDED:
            self.release(version)
        elif segment.status is SegmentStatus.FINISHED:
            self.state, self.finish_reason = RolloutState.FINISHED, segment.finish_reason
        return Verdict.ACCEPTED

    def score(self, lease_epoch: int, rewards: dict[str, float], text: str) -> Verdict:
        """Take the rewards of a finished rollout.

        Raises:
            ProtocolError: it is not finished, or was scored otherwise before.
        """
        if lease_epoch != self.lease_epoch or self.state is RolloutState.EXPIRED:
            return Verdict.REVOKED
        if self.state is RolloutState.SCORED:
            if rewards != self.rewards:
                raise ProtocolError(
                    f"rollout {self.rollout_id} was scored {self.rewards}, got {rewards}"
                )
            return Verdict.DUPLICATE
        if self.state is not RolloutState.FINISHED:
            raise ProtocolError(f"rollout {self.rollout_id} is {self.state}, got a score")
        self.state, self.holder = RolloutState.SCORED, None
        self.rewards, self.text = rewards, text
        return Verdict.ACCEPTED

    def release(self, version: int) -> None:
        """Take the lease back: its holder died, left, or was told to stop."""
        self.holder = None
        if self.state is RolloutState.LEASED:
            self.state, self.suspended_version = RolloutState.SUSPENDED, version

    def expire(self) -> None:
        """Leave untrained; whatever still arrives is answered `revoked`."""
        self.state, self.holder = RolloutState.EXPIRED, None

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        token_ids = self.token_ids
        if segment_hash.extend(0, token_ids) != self._hash:
            return False, "hash does not match tokens"
        lengths = {len(token_ids), len(self.logprobs), len(self.versions), len(self.mask)}
        if lengths != {self._num_tokens}:
            return False, f"lengths differ: {lengths}"
        if self.state is RolloutState.LEASED and self.holder is None:
            return False, "leased to nobody"
        if self.holder and self.state not in (RolloutState.LEASED, RolloutState.FINISHED):
            return False, f"state {self.state} with holder {self.holder!r}"
        return True, ""

    def _repeats(self, segment: Segment) -> bool:
        """Whether an acknowledged segment came again: same key and bytes.

        Raises:
            ProtocolError: same key, other bytes.
        """
        start, stop = segment.token_offset, segment.token_offset + len(segment.token_ids)
        ends_lease = start == stop and self.state is RolloutState.LEASED
        if ends_lease or stop > self._num_tokens:
            return False
        same = np.array_equal(self.token_ids[start:stop], segment.token_ids) and np.array_equal(
            self.logprobs[start:stop], segment.behavior_logprobs
        )
        if not same:
            raise ProtocolError(
                f"rollout {self.rollout_id} tokens {start}:{stop} are acknowledged as "
                f"{self.token_ids[start:stop].tolist()[:8]}…, got "
                f"{segment.token_ids.tolist()[:8]}…"
            )
        return True

    def _take_prompt(self, segment: Segment) -> None:
        if segment.prompt_ids is None:
            if self.prompt_ids is None:
                raise ProtocolError(f"rollout {self.rollout_id} has no prompt tokens yet")
        elif self.prompt_ids is None:
            self.prompt_ids = np.array(segment.prompt_ids)
        elif not np.array_equal(self.prompt_ids, segment.prompt_ids):
            raise ProtocolError(f"rollout {self.rollout_id} was continued from another prompt")

    def _append(self, segment: Segment) -> None:
        count = len(segment.token_ids)
        if count:
            spans = segment.spans
            self._token_ids.append(np.array(segment.token_ids))
            self._logprobs.append(np.array(segment.behavior_logprobs))
            self._versions.append(
                np.repeat(
                    np.asarray([span.policy_version for span in spans], dtype=np.int32),
                    [span.num_tokens for span in spans],
                )
            )
            mask = np.ones(count, np.uint8) if segment.mask is None else np.array(segment.mask)
            self._masks.append(mask)
        self.swaps.extend(segment.swaps)
        self._hash = segment_hash.extend(self._hash, segment.token_ids)
        self._num_tokens += count

    def lease(
        self, holder: bytes, *, version: int, seed: int, token_budget: int, max_new_tokens: int,
        temperature: float,
    ) -> Lease:  # fmt: skip
        """Grant the next lease on this rollout to a holder."""
        assert self.can_lease, self.state
        scoring = self.state is RolloutState.FINISHED
        self.lease_epoch += 1
        self.leased_version = version
        self.holder = holder
        if not scoring:
            self.state = RolloutState.LEASED
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
            prefix_hash=self._hash,
        )


def _merged(parts: list, dtype: type) -> np.ndarray:
    """One array of the parts; merges them in place so that repeated reads stay cheap."""
    if not parts:
        return np.zeros(0, dtype)
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
