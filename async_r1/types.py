"""What crosses a boundary between roles, each with an example; numpy only.

Shapes: P prompt tokens, T completion tokens, R rollouts, N = sum of T over the rollouts of a
batch. Arrays are read-only views of received frames where they come from the wire.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]


EVAL_GROUP = -1  # group id of rollouts that only evaluate


class LeaseKind(StrEnum):
    """What a lease asks for."""

    GENERATE = "generate"  # sample from the prompt, or continue from `prefix_ids`
    SCORE = "score"  # the rollout is finished: only score it
    EVAL = "eval"  # sample for evaluation; nothing of it trains


class SegmentStatus(StrEnum):
    """State of the rollout after a segment."""

    STREAMING = "streaming"
    SUSPENDED = "suspended"  # the lease ends here; the rollout goes on under another lease
    FINISHED = "finished"


class FinishReason(StrEnum):
    """Why a rollout ended."""

    STOP = "stop"
    LENGTH = "length"  # truncated: reached max_new_tokens or the context


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """A run of tokens sampled by one policy version.

    Example: a 9-token segment with a weight update after 5 tokens has spans
    `(VersionSpan(3, 5), VersionSpan(4, 4))`.
    """

    policy_version: int
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right and duty to produce, continue or score one rollout until it is revoked.

    Example: `Lease(rollout_id=17, lease_epoch=2, ...)` with 40 prefix ids continues rollout 17
    after its second suspension; sampling starts at token offset 40.
    """

    rollout_id: int
    lease_epoch: int
    kind: LeaseKind
    group_id: int
    member: int  # index in the group, 0-based
    prompt_id: str
    level: int
    seed: int
    token_budget: int  # tokens this lease may sample before suspension; 0: no limit
    max_new_tokens: int  # of the whole rollout
    temperature: float
    finish_reason: FinishReason | None = None  # set for SCORE
    prefix_ids: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))  # [T so far]
    prefix_hash: int = 0  # of prefix_ids, see segment_hash.py


@dataclass(slots=True, kw_only=True)
class Segment:
    """A contiguous run of a rollout's tokens, streamed as one message; not to be changed (frozen,
    it would cost three times as much to make, and the buffer makes one for every message).

    `(rollout_id, lease_epoch, token_offset, prefix_hash)` is its identity: the same key with the
    same bytes may arrive again and changes nothing.

    Example: tokens 32..63 of rollout 17, all from version 4:
    `Segment(rollout_id=17, lease_epoch=1, token_offset=32, ..., spans=(VersionSpan(4, 32),))`.
    """

    rollout_id: int
    lease_epoch: int
    token_offset: int  # tokens of the rollout before this segment
    prefix_hash: int  # hash of the completion tokens before token_offset
    status: SegmentStatus
    finish_reason: FinishReason | None
    spans: tuple[VersionSpan, ...]  # cover token_ids exactly
    prefill_version: int  # version that computed the KV cache of the lease's prefix
    swaps: tuple[int, ...]  # offsets (in the rollout) before which weights changed under the KV
    token_ids: Int32  # [T] as the engine emitted them, stop token included
    behavior_logprobs: Float32  # [T] under the distribution sampled from
    mask: UInt8 | None = None  # [T] 1: the policy sampled it; None: all ones
    prompt_ids: Int32 | None = None  # [P] with the first segment of every lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The rewards of a finished rollout, or why it has none.

    `rewards` holds each term by name, "task" (accuracy alone) and "total" (weighted sum).
    Example: `{"accuracy": 1.0, "format": 1.0, "task": 1.0, "total": 1.1}`.
    """

    rollout_id: int
    lease_epoch: int
    rewards: dict[str, float]  # empty if there is an error
    text: str
    error: str = ""  # one line: "ValueError: … (reward.py:12)", or "took more than 10 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the learner trains on: items drawn for one version, rollouts concatenated. An item is a
    whole group, or, with `buffer.item=rollout`, one member of it.

    Tokens of rollout r are `[offsets[r]:offsets[r + 1]]` of the flat arrays, where
    `offsets = concatenate([0], cumsum(completion_lens))`; prompts likewise.

    Example: 4 groups of 8 rollouts of 60 tokens: R = 32, N = 1920.
    """

    batch_id: int
    policy_version: int  # at which it will be consumed
    prompt_ids: Int32  # [sum of P]
    prompt_lens: Int32  # [R]
    token_ids: Int32  # [N]
    completion_lens: Int32  # [R]
    behavior_logprobs: Float32  # [N]
    versions: Int32  # [N] policy version that sampled each token
    mask: UInt8  # [N] 1: trainable (sampled by the policy and inside the staleness bound)
    rewards: Float32  # [R] total
    advantages: Float32  # [R] group-centred
    groups: Int32  # [R] index of the rollout's group in this batch
    inclusion_probs: Float32  # [R] of the rollout's item in the draw
    item_ids: Int32  # [R] table item of each rollout
    rollout_ids: Int32  # [R]
    levels: Int32  # [R]
    truncated: UInt8  # [R]
    info: dict[str, Any] = field(default_factory=dict)  # scalars for the metrics row
    num_items: int = 0  # in the table when the batch was drawn (N)
    beta: float = 0.0  # of the importance weights (n / (N * inclusion_probs)) ** beta; 0: none

    @property
    def num_rollouts(self) -> int:
        return len(self.completion_lens)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)
