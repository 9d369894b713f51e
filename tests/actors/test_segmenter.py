"""Segments of a token stream: whatever the cuts, together they are the rollout."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.engine import TokenChunk
from actors.segmenter import Segmenter, run_lengths
from async_r1 import segment_hash
from async_r1.types import FinishReason, Lease, LeaseKind, Segment, SegmentStatus


def _lease(prefix: list[int], budget: int = 0) -> Lease:
    ids = np.asarray(prefix, dtype=np.int32)
    return Lease(
        rollout_id=7,
        lease_epoch=2,
        kind=LeaseKind.GENERATE,
        group_id=1,
        member=0,
        prompt_id="p",
        level=1,
        seed=0,
        token_budget=budget,
        max_new_tokens=1000,
        temperature=1.0,
        prefix_ids=ids,
        prefix_hash=segment_hash.extend(0, ids),
    )


def _stream(lengths: list[int], steps: list[int], end: FinishReason) -> list[TokenChunk]:
    """Chunks of the given lengths; `steps[i]` is how much the version grows before chunk i."""
    chunks, version, token = [], 3, 0
    for index, (length, step) in enumerate(zip(lengths, steps, strict=False)):
        version += step
        ids = list(range(token, token + length))
        token += length
        last = index == min(len(lengths), len(steps)) - 1
        logprobs = [-place / 8 for place in range(1, length + 1)]
        chunks.append(TokenChunk(7, ids, logprobs, version, 3, end if last else None))
    return chunks


@given(
    prefix=st.lists(st.integers(0, 99), max_size=20),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    steps=st.lists(st.integers(0, 1), min_size=30, max_size=30),
    segment_tokens=st.integers(1, 9),
    end=st.sampled_from(FinishReason),
)
def test_concatenated_segments_are_the_rollout(
    prefix: list[int],
    lengths: list[int],
    steps: list[int],
    segment_tokens: int,
    end: FinishReason,
) -> None:
    chunks = _stream(lengths, steps, end)
    total = len(prefix) + sum(lengths)
    segmenter = Segmenter(_lease(prefix), np.zeros(4, np.int32), segment_tokens, total)
    segments: list[Segment] = [s for chunk in chunks for s in segmenter.add(chunk)]

    tokens = np.concatenate([chunk.token_ids for chunk in chunks])
    assert np.array_equal(np.concatenate([s.token_ids for s in segments]), tokens)
    logprobs = np.concatenate([chunk.logprobs for chunk in chunks])
    assert np.array_equal(np.concatenate([s.behavior_logprobs for s in segments]), logprobs)
    versions = [c.policy_version for c in chunks for _ in c.token_ids]
    stamped = [v.policy_version for s in segments for v in s.spans for _ in range(v.num_tokens)]
    assert stamped == versions

    everything = np.asarray([*prefix, *tokens], dtype=np.int32)
    offset = len(prefix)
    for index, segment in enumerate(segments):
        assert segment.token_offset == offset
        assert segment.prefix_hash == segment_hash.extend(0, everything[:offset])
        assert (segment.prompt_ids is not None) == (index == 0)
        assert len(segment.token_ids) <= segment_tokens
        offset += len(segment.token_ids)
    assert [s.status for s in segments[:-1]] == [SegmentStatus.STREAMING] * (len(segments) - 1)
    assert segments[-1].status is SegmentStatus.FINISHED
    assert segments[-1].finish_reason is end

    swaps = [i for i in range(1, len(versions)) if versions[i] != versions[i - 1]]
    recorded = sorted({swap for s in segments for swap in s.swaps})
    assert recorded == [len(prefix) + swap for swap in swaps]


def test_a_spent_budget_suspends_and_the_last_token_finishes() -> None:
    chunk = _stream([6], [0], FinishReason.LENGTH)[0]
    (segment,) = Segmenter(_lease([]), np.zeros(4, np.int32), 32, 20).add(chunk)
    assert segment.status is SegmentStatus.SUSPENDED and segment.finish_reason is None
    (segment,) = Segmenter(_lease([]), np.zeros(4, np.int32), 32, 6).add(chunk)
    assert segment.status is SegmentStatus.FINISHED
    stop = _stream([6], [0], FinishReason.STOP)[0]
    (segment,) = Segmenter(_lease([]), np.zeros(4, np.int32), 32, 20).add(stop)
    assert segment.finish_reason is FinishReason.STOP


def test_a_full_segment_leaves_at_once() -> None:
    segmenter = Segmenter(_lease([]), np.zeros(4, np.int32), 4, 100)
    chunks = _stream([1] * 9, [0] * 9, FinishReason.STOP)
    sent = [len(segmenter.add(chunk)) for chunk in chunks]
    assert sent == [0, 0, 0, 1, 0, 0, 0, 1, 1]


@given(st.lists(st.integers(0, 3)))
def test_run_lengths_invert_to_the_versions(versions: list[int]) -> None:
    spans = run_lengths(versions)
    assert [v.policy_version for v in spans for _ in range(v.num_tokens)] == versions
    assert all(a.policy_version != b.policy_version for a, b in pairwise(spans))
