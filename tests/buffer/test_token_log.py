"""What a stored token costs, and that what is kept in runs is what was sent."""

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from async_r1.segment_messages import read_segment, write_segment
from async_r1.types import FinishReason
from async_r1.wire import decode, encode
from buffer.rollout import Rollout, Verdict
from buffer.token_log import TokenLog
from tests.buffer.fakes import lease_to, make_prompt, make_segment

RAW_BYTES = 12  # id, log-prob and version of a token
BOUND = 1.25


@pytest.mark.parametrize("per_segment", [64, 1024, 4096, 16_384])
@pytest.mark.parametrize("masked", [False, True])
def test_memory_per_stored_token(per_segment: int, masked: bool) -> None:
    """Of a rollout's tokens and all objects around them, as they come from the wire: a mask in
    every eighth segment, a new version in every other."""
    count = (131_072 if per_segment >= 1024 else 16_384) // per_segment
    rng = np.random.default_rng(0)
    frames, prefix = [], np.zeros(0, np.int32)
    for number in range(count):
        tokens = rng.integers(0, 150_000, per_segment).astype(np.int32)
        fields: dict[str, Any] = {"prompt": range(1000) if not number else None}
        if masked:
            fields["mask"] = (rng.random(per_segment) < (0.5 if number % 8 == 0 else 2)).astype(
                "u1"
            )
        segment = make_segment(
            tokens,
            prefix=prefix,
            versions=[number // 2] * (per_segment // 2) + [number] * (per_segment // 2),
            finish=FinishReason.STOP if number == count - 1 else None,
            **fields,
        )
        prefix = np.concatenate([prefix, tokens])
        frames.append([bytes(frame) for frame in encode(write_segment(segment))])
    rollout = Rollout(rollout_id=0, group_id=0, member=0, prompt=make_prompt(0))
    lease_to(rollout)
    num_tokens = count * per_segment
    gc.collect()
    tracemalloc.start()
    try:
        for parts in frames:  # a copy, as a socket makes one
            copies = [bytes(bytearray(part)) for part in parts]
            segment = read_segment(decode(copies))
            assert rollout.accept(segment, b"a", 0) is Verdict.ACCEPTED
            del copies, segment
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
        if per_segment >= 1024:
            assert kept / num_tokens <= BOUND * RAW_BYTES
        # Nothing is ever there twice but what is being read.
        assert peak - kept <= 4 * sum(map(len, frames[-1])) + 20_000
        rollout.settle()  # as when its group closes: then of short segments, too
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] / num_tokens <= BOUND * RAW_BYTES
    finally:
        tracemalloc.stop()
    assert np.array_equal(rollout.token_ids, prefix) and rollout.check_valid() == (True, "")


@pytest.mark.parametrize("seed", range(5))
def test_runs_and_masks_against_one_element_per_token(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log = TokenLog()
    tokens: list[int] = []
    versions: list[int] = []
    mask: list[int] = []
    for _ in range(40):
        count = int(rng.integers(0, 6))
        new = rng.integers(0, 9, count).tolist()
        new_versions = np.sort(rng.integers(0, 3, count)).tolist()
        new_mask = rng.integers(0, 2, count) if rng.random() < 0.4 else None
        if rng.random() < 0.2:
            new_mask = np.ones(count)
        log.append(
            make_segment(
                new,
                versions=new_versions,
                mask=None if new_mask is None else new_mask.astype(np.uint8),
            )
        )
        tokens += new
        versions += new_versions
        mask += [1] * count if new_mask is None else new_mask.tolist()
        assert log.check_valid() == (True, "")
        assert log.versions.tolist() == versions and log.versions.dtype == np.int32
        assert log.mask.tolist() == mask and log.mask.dtype == np.uint8
        if rng.random() < 0.5:  # reading merges what was appended
            assert log.token_ids.tolist() == tokens
        if tokens:
            assert (log.oldest_version, log.newest_version) == (min(versions), max(versions))
