"""Cuts the token stream of one lease into segments."""

from dataclasses import dataclass, field

import numpy as np

from actors.engine import TokenChunk
from async_r1 import segment_hash
from async_r1.types import FinishReason, Int32, Lease, Segment, SegmentStatus, VersionSpan


@dataclass(slots=True)
class Segmenter:
    """Accumulates the tokens of one lease; yields a segment whenever one is full or the lease ends.

    Concatenated, the segments are the rollout: offsets are contiguous and each prefix hash is the
    hash of all tokens before it.
    """

    lease: Lease
    prompt_ids: Int32
    segment_tokens: int
    max_tokens: int  # of the whole rollout: reaching it truncates, less only ends the lease
    _offset: int = 0
    _hash: int = 0
    _num_waiting: int = 0  # tokens of the chunks that are not in the lists below yet
    _waiting: list[TokenChunk] = field(default_factory=list)
    _token_ids: list[int] = field(default_factory=list)
    _logprobs: list[float] = field(default_factory=list)
    _versions: list[int] = field(default_factory=list)
    _swaps: list[int] = field(default_factory=list)
    _prefill_version: int = 0
    _last_version: int | None = None
    _sent_prompt: bool = False

    def __post_init__(self) -> None:
        self._offset = len(self.lease.prefix_ids)
        self._hash = self.lease.prefix_hash

    def add(self, chunk: TokenChunk) -> list[Segment]:
        """Take a chunk; return the segments that it completes.

        Most complete none. Those are only put aside: this is called for every token.
        """
        self._waiting.append(chunk)
        self._num_waiting += len(chunk.token_ids)
        count = len(self._token_ids) + self._num_waiting
        if count < self.segment_tokens and chunk.finish_reason is None:
            return []
        for waiting in self._waiting:
            self._unpack(waiting)
        self._waiting.clear()
        self._num_waiting = 0
        segments = []
        while len(self._token_ids) > self.segment_tokens:
            segments.append(self._cut(self.segment_tokens, SegmentStatus.STREAMING, None))
        if chunk.finish_reason is not None:
            segments.append(self._last(chunk.finish_reason))
        elif len(self._token_ids) == self.segment_tokens:
            segments.append(self._cut(self.segment_tokens, SegmentStatus.STREAMING, None))
        return segments

    def _unpack(self, chunk: TokenChunk) -> None:
        kept_cache = chunk.prefill_version == self._prefill_version
        if self._last_version not in (None, chunk.policy_version) and kept_cache:
            self._swaps.append(self._offset + len(self._token_ids))
        self._prefill_version = chunk.prefill_version
        self._last_version = chunk.policy_version
        self._token_ids.extend(chunk.token_ids)
        self._logprobs.extend(chunk.logprobs)
        self._versions.extend([chunk.policy_version] * len(chunk.token_ids))

    def _last(self, reason: FinishReason) -> Segment:
        """The segment that ends the lease: the rollout is finished, or goes back unfinished
        because the lease's token budget is spent."""
        count = len(self._token_ids)
        if reason is FinishReason.LENGTH and self._offset + count < self.max_tokens:
            return self._cut(count, SegmentStatus.SUSPENDED, None)
        return self._cut(count, SegmentStatus.FINISHED, reason)

    def _cut(self, count: int, status: SegmentStatus, reason: FinishReason | None) -> Segment:
        token_ids = np.asarray(self._token_ids[:count], dtype=np.int32)
        end = self._offset + count
        segment = Segment(
            rollout_id=self.lease.rollout_id,
            lease_epoch=self.lease.lease_epoch,
            token_offset=self._offset,
            prefix_hash=self._hash,
            status=status,
            finish_reason=reason,
            spans=run_lengths(self._versions[:count]),
            prefill_version=self._prefill_version,
            swaps=tuple(swap for swap in self._swaps if swap < end),
            token_ids=token_ids,
            behavior_logprobs=np.asarray(self._logprobs[:count], dtype=np.float32),
            prompt_ids=None if self._sent_prompt else self.prompt_ids,
        )
        self._hash = segment_hash.extend(self._hash, token_ids)
        self._offset = end
        del self._token_ids[:count], self._logprobs[:count], self._versions[:count]
        self._swaps = [swap for swap in self._swaps if swap >= end]
        self._sent_prompt = True
        return segment


def run_lengths(versions: list[int]) -> tuple[VersionSpan, ...]:
    """Run-length spans of per-token versions: `[3, 3, 4]` gives `(3, 2), (4, 1)`."""
    spans: list[VersionSpan] = []
    for version in versions:
        if spans and spans[-1].policy_version == version:
            spans[-1] = VersionSpan(version, spans[-1].num_tokens + 1)
        else:
            spans.append(VersionSpan(version, 1))
    return tuple(spans)
