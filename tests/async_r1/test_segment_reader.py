"""The reader of segments against a slow one, over messages altered at random."""

from typing import Any

import numpy as np
import pytest

from async_r1.errors import WireError
from async_r1.messages import read_ack
from async_r1.segment_messages import read_segment
from async_r1.wire import Message
from tests.async_r1.slow_segment import Refused, read_segment_slowly
from tests.async_r1.test_messages import same

VOCAB_SIZE = 50
ODD_VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 2**31, 2**63, 1.0, float("nan"), "", "stop", "length", "streaming",
    "suspended", "finished", "asleep", b"stop", [], [1], [1.5], [[0, 3]], [[0, 1], [1, 2]],
    [[0, 1], [0, 2]], [[0, 3, 1]], [[True, 3]], [[0, 3.0]], [[-1, 3]], [[2**31, 3]],
    [[0, 4], [0, -1]], [[0, 3], [1, 0]], [["a", 3]], [3, 3], {}, {"a": 1},
]  # fmt: skip
# Bits around every border between the floats that are log-probs and those that are not.
ODD_BITS = [
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0xBF800000, 0xFF7FFFFF, 0xFF800000, 0xFF800001,
    0x7F800000, 0x7F800001, 0x7FC00000, 0xFFC00000, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F7FFFFF, 0x3F800000,
]  # fmt: skip
ODD_TOKENS = [0, 1, VOCAB_SIZE - 1, VOCAB_SIZE, 2**31 - 1, -1, -(2**31)]


def good(rng: np.random.Generator) -> Message:
    count = int(rng.integers(0, 5))
    status = ["streaming", "suspended", "finished"][int(rng.integers(0, 3))]
    values = {
        "rollout_id": 3,
        "lease_epoch": 1,
        "token_offset": int(rng.integers(0, 9)),
        "prefix_hash": 2**32 - 1,
        "status": status,
        "finish_reason": "stop" if status == "finished" else "",
        "spans": [[7, count]] if count else [],
        "prefill_version": 7,
        "swaps": [],
    }
    arrays: dict[str, Any] = {
        "token_ids": rng.integers(0, VOCAB_SIZE, count).astype(np.int32),
        "behavior_logprobs": -rng.random(count).astype(np.float32),
    }
    if rng.random() < 0.3:
        arrays["mask"] = np.ones(count, np.uint8)
    if rng.random() < 0.3:
        arrays["prompt_ids"] = np.array([1, 2], np.int32)
    return Message("segment", values, arrays)


def alter(message: Message, rng: np.random.Generator) -> Message:
    values, arrays = dict(message.values), dict(message.arrays)
    kind = int(rng.integers(0, 6))
    name = str(rng.choice(list(arrays)))
    array = arrays[name].copy()
    if kind == 0:
        values[str(rng.choice(list(values)))] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    elif kind == 1:
        del values[str(rng.choice(list(values)))]
    elif kind == 2:
        del arrays[name]
    elif kind == 3 and len(array):
        if array.dtype == np.uint8:
            array[int(rng.integers(len(array)))] = int(rng.integers(0, 4))
        elif array.dtype == np.int32:
            array[int(rng.integers(len(array)))] = ODD_TOKENS[int(rng.integers(len(ODD_TOKENS)))]
        else:
            bits = array.view(np.uint32)
            bits[int(rng.integers(len(bits)))] = ODD_BITS[int(rng.integers(len(ODD_BITS)))]
        arrays[name] = array
    elif kind == 4:
        arrays[name] = np.resize(array, int(rng.integers(0, 5)))
    elif kind == 5:
        dtype = [np.int32, np.float32, np.uint8][int(rng.integers(0, 3))]
        arrays[name] = np.zeros(len(array), dtype)
    return Message("segment", values, arrays)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_verdict_and_the_same_segment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(2500):
        message = good(rng)
        for _ in range(int(rng.integers(0, 3))):
            message = alter(message, rng) if message.arrays and message.values else message
        try:
            expected = read_segment_slowly(message, VOCAB_SIZE)
        except Refused:
            verdicts[False] += 1
            with pytest.raises(WireError):
                read_segment(message, VOCAB_SIZE)
        else:
            verdicts[True] += 1
            assert same(read_segment(message, VOCAB_SIZE), expected)
    assert min(verdicts.values()) > 500


@pytest.mark.parametrize("bits", ODD_BITS)
@pytest.mark.parametrize("beside", [0x00000000, 0xBF800000])  # +0.0 hides the sign of others
def test_every_border_of_the_log_probs(bits: int, beside: int) -> None:
    message = good(np.random.default_rng(0))
    while len(message.arrays["token_ids"]) < 2:
        message = good(np.random.default_rng(1))
    count = len(message.arrays["token_ids"])
    logprobs = np.full(count, beside, np.uint32)
    logprobs[-1] = bits
    arrays = {**message.arrays, "behavior_logprobs": logprobs.view(np.float32)}
    value = float(logprobs.view(np.float32)[-1])
    altered = Message("segment", message.values, arrays)
    if np.isfinite(value) and value <= 0:
        read_segment(altered, VOCAB_SIZE)
    else:
        with pytest.raises(WireError, match="finite and <= 0"):
            read_segment(altered, VOCAB_SIZE)


@pytest.mark.parametrize("segments", [None, 3, [3], [[1, 2]], [[1, 2, "3"]], [[1, 2, True]]])
def test_acknowledgements_are_triples_of_integers(segments: Any) -> None:
    assert read_ack(Message("ack", {"segments": [[1, 2, 3]]})) == [(1, 2, 3)]
    with pytest.raises(WireError):
        read_ack(Message("ack", {"segments": segments}))
