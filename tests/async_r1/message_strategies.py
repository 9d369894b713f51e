"""Records as `hypothesis` draws them, for the tests of their messages."""

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from async_r1.types import (
    Batch,
    FinishReason,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
    VersionSpan,
)

naturals = st.integers(0, 2**31 - 1)
logprob = st.floats(-100, 0, width=32)


def token_arrays(length: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int32, length, elements=st.integers(0, 2**31 - 1))


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    spans = draw(st.lists(st.builds(VersionSpan, naturals, st.integers(1, 5)), max_size=3))
    length = sum(span.num_tokens for span in spans)
    statuses = [SegmentStatus.SUSPENDED, SegmentStatus.FINISHED]
    status = draw(st.sampled_from([SegmentStatus.STREAMING, *statuses] if length else statuses))
    finish = draw(st.sampled_from(FinishReason)) if status is SegmentStatus.FINISHED else None
    return Segment(
        rollout_id=draw(naturals),
        lease_epoch=draw(naturals),
        token_offset=draw(naturals),
        prefix_hash=draw(st.integers(0, 2**32 - 1)),
        status=status,
        finish_reason=finish,
        spans=tuple(spans),
        prefill_version=draw(naturals),
        swaps=tuple(draw(st.lists(naturals, max_size=3))),
        token_ids=draw(token_arrays(length)),
        behavior_logprobs=draw(hnp.arrays(np.float32, length, elements=logprob)),
        mask=draw(st.none() | hnp.arrays(np.uint8, length, elements=st.integers(0, 1))),
        prompt_ids=draw(st.none() | token_arrays(3)),
    )


leases = st.builds(
    Lease,
    rollout_id=naturals,
    lease_epoch=naturals,
    kind=st.sampled_from(LeaseKind),
    group_id=st.integers(-1, 2**31 - 1),
    member=naturals,
    prompt_id=st.text(max_size=8),
    level=st.integers(-3, 9),
    seed=st.integers(0, 2**32 - 1),
    token_budget=naturals,
    max_new_tokens=naturals,
    temperature=st.floats(0, 2),
    finish_reason=st.none() | st.sampled_from(FinishReason),
    prefix_ids=st.integers(0, 4).flatmap(token_arrays),
    prefix_hash=st.integers(0, 2**32 - 1),
)
rewards = st.floats(-1e30, 1e30) | st.integers(-5, 5).map(float)
scores = st.builds(
    Score,
    rollout_id=naturals,
    lease_epoch=naturals,
    rewards=st.fixed_dictionaries({"task": rewards, "total": rewards}, optional={"ä": rewards}),
    text=st.text(max_size=20),
)


SCALARS = {"batch_id", "policy_version", "info", "num_items", "beta"}


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    count = draw(st.integers(0, 4))
    lengths = st.lists(st.integers(0, 4), min_size=count, max_size=count)
    prompts, completions = draw(lengths), draw(lengths)
    arrays: dict[str, Any] = {"prompt_lens": prompts, "completion_lens": completions}
    sizes = {"prompt_ids": sum(prompts)}
    for name in ("token_ids", "behavior_logprobs", "versions", "mask"):
        sizes[name] = sum(completions)
    floats = ("behavior_logprobs", "rewards", "advantages", "inclusion_probs")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Batch):
        if field.name in SCALARS:
            continue
        dtype = np.int32
        if field.name in floats:
            dtype = np.float32
        elif field.name in ("mask", "truncated"):
            dtype = np.uint8
        given_values = arrays.get(field.name)
        if given_values is None:
            size = sizes.get(field.name, count)
            values[field.name] = draw(hnp.arrays(dtype, size))
        else:
            values[field.name] = np.asarray(given_values, dtype)
    info = draw(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=2))
    values["num_items"] = draw(naturals)
    values["beta"] = draw(st.floats(0, 1)) if (values["inclusion_probs"] > 0).all() else 0.0
    return Batch(batch_id=draw(naturals), policy_version=draw(naturals), info=info, **values)
