"""Frames: whatever is encoded decodes to the same; whatever is no message is a WireError."""

import pickle
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from async_r1 import wire
from async_r1.errors import ProtocolVersionError, WireError
from async_r1.wire import Message, decode, encode

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
arrays = st.sampled_from([np.int32, np.float32, np.uint8]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.integers(0, 20))
)
messages = st.builds(
    Message,
    st.text(max_size=10),
    st.dictionaries(st.text(max_size=6), plain, max_size=4),
    st.dictionaries(st.text(max_size=6), arrays, max_size=4),
)


def frames_of(message: Message) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


def header(*fields: Any) -> bytes:
    return bytes(msgpack.packb(list(fields), use_bin_type=True))


def same_arrays(left: Message, right: Message) -> bool:
    return list(left.arrays) == list(right.arrays) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(left.arrays.values(), right.arrays.values(), strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(messages)
def test_round_trip(message: Message) -> None:
    decoded = decode(frames_of(message))
    assert (decoded.kind, decoded.values) == (message.kind, message.values)
    assert same_arrays(decoded, message)
    assert decoded.num_bytes == sum(len(frame) for frame in frames_of(message)[1:])


def test_strided_and_foreign_byte_orders() -> None:
    strided = np.arange(10, dtype=np.int32)[::-2]
    assert decode(frames_of(Message("x", {}, {"a": strided}))).arrays["a"].tolist() == (
        [9, 7, 5, 3, 1]
    )
    with pytest.raises(WireError, match=r"x\.a must be a 1-d array of i4, f4, u1"):
        encode(Message("x", {}, {"a": strided.astype(">i4")}))


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros(3, np.int64), np.zeros((2, 2), np.int32), np.array(["a"])]
)
def test_only_the_protocols_dtypes_are_encoded(array: np.ndarray) -> None:
    with pytest.raises(WireError):
        encode(Message("x", {}, {"a": array}))


def test_arrays_are_read_only_views_of_the_frame() -> None:
    frame = bytearray(np.arange(4, dtype="<i4").tobytes())
    array = decode([header(1, "x", {}, [["a", "i4", 4]]), memoryview(frame)]).arrays["a"]
    assert not array.flags.writeable
    frame[0] = 7
    assert array[0] == 7


GOOD = (header(1, "x", {}, [["a", "i4", 2]]), b"\0" * 8)
BAD: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "empty header": (b"",),
    "a frame too few": GOOD[:1],
    "a frame too many": (*GOOD, b""),
    "truncated array": (GOOD[0], b"\0" * 7),
    "array too long": (GOOD[0], b"\0" * 12),
    "older version": (header(0, "x", {}, []),),
    "newer version": (header(2, "x", {}, []),),
    "version of another type": (header("1", "x", {}, []),),
    "three fields": (header(1, "x", {}),),
    "five fields": (header(1, "x", {}, [], 0),),
    "no list": (msgpack.packb({"kind": "x"}),),
    "kind is no text": (header(1, 7, {}, []),),
    "values are no mapping": (header(1, "x", [], []),),
    "arrays are no list": (header(1, "x", {}, {}),),
    "unknown dtype": (header(1, "x", {}, [["a", "i8", 1]]), b"\0" * 8),
    "object dtype": (header(1, "x", {}, [["a", "O", 1]]), b"\0" * 8),
    "dtype is no text": (header(1, "x", {}, [["a", ["i4"], 1]]), b"\0" * 4),
    "name is no text": (header(1, "x", {}, [[1, "i4", 1]]), b"\0" * 4),
    "entry of two": (header(1, "x", {}, [["a", "i4"]]), b"\0" * 4),
    "entry is no list": (header(1, "x", {}, ["a"]), b"\0" * 4),
    "negative length": (header(1, "x", {}, [["a", "i4", -1]]), b""),
    "length is no integer": (header(1, "x", {}, [["a", "i4", 1.0]]), b"\0" * 4),
    "length is a truth value": (header(1, "x", {}, [["a", "u1", True]]), b"\0"),
    "length beyond every bound": (header(1, "x", {}, [["a", "i4", 2**63]]), b""),
    "name twice": (header(1, "x", {}, [["a", "u1", 1]] * 2), b"\0", b"\0"),
    "integer keys": (header(1, "x", {1: 2}, []),),
    "text that is not UTF-8": (b"\x94\x01\xa2\xff\xff\x80\x90",),
    "trailing bytes": (GOOD[0] + b"\0", GOOD[1]),
    "announces more than it has": (b"\xdd\xff\xff\xff\xff",),
    "nested too deep": (b"\x94\x01\xa1x\x81\xa1y" + b"\x91" * 5000 + b"\x90\x90",),
    "pickle": (pickle.dumps([1, "x", {}, []]),),
    "numpy file": (b"\x93NUMPY\x01\x00v\x00",),
    "too many frames": (header(1, "x", {}, [["a", "u1", 0]] * 64), *[b""] * 64),
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD.keys())
def test_malformed_frames_are_rejected(frames: tuple[bytes, ...]) -> None:
    with pytest.raises(WireError):
        decode(frames)
    with pytest.raises(WireError):
        decode([memoryview(frame) for frame in frames])


def test_versions_are_told_apart_and_errors_read_by_all() -> None:
    for version in (0, 2, 2**40):
        with pytest.raises(ProtocolVersionError, match=rf"must be 1, got {version}:"):
            decode([header(version, "hello", {}, [])])
        with pytest.raises(ProtocolVersionError):
            decode([header(version, "whatever", "later", "versions", "say")])
        with pytest.raises(ProtocolVersionError):
            decode([header(version)])
        values = {"error": "ProtocolVersionError", "text": "must be 9, got 1", "more": 1}
        assert decode([header(version, "error", values, [])]).values == values
    with pytest.raises(WireError):
        decode([header(2, "error", "no mapping", [])])


def test_oversized_header_and_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_HEADER_BYTES", 100)
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 40)
    decode(frames_of(Message("x", {"text": "." * 60}, {"a": np.zeros(10, np.int32)})))
    with pytest.raises(WireError, match="header must be <= 100 bytes, got 1"):
        decode(frames_of(Message("x", {"text": "." * 100})))
    with pytest.raises(WireError, match="must have 44 bytes"):
        decode(frames_of(Message("x", {}, {"a": np.zeros(11, np.int32)})))


class Bomb:
    """Unpickled, it would end the process."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        import os

        return os._exit, (1,)


def test_nothing_is_unpickled() -> None:
    for frames in ([pickle.dumps(Bomb())], [GOOD[0], pickle.dumps(Bomb())]):
        with pytest.raises(WireError):
            decode(frames)


def _survives(frames: list[bytes]) -> None:
    try:
        decode(frames)
    except WireError:
        pass


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=64), max_size=4))
def test_random_bytes_never_crash(frames: list[bytes]) -> None:
    _survives(frames)


@settings(deadline=None, max_examples=60)
@given(messages, st.data())
def test_damaged_messages_never_crash(message: Message, data: st.DataObject) -> None:
    frames = frames_of(message)
    index = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[index])
    if frame:
        position = data.draw(st.integers(0, len(frame) - 1))
        if data.draw(st.booleans()):
            frame[position] = data.draw(st.integers(0, 255))
        else:
            del frame[position:]
    frames[index] = bytes(frame)
    _survives(frames)


@settings(deadline=None, max_examples=60)
@given(messages, st.data())
def test_cut_messages_are_rejected(message: Message, data: st.DataObject) -> None:
    """Bytes missing at the end of any frame, or whole frames, never pass for a message."""
    frames = frames_of(message)
    index = data.draw(st.integers(0, len(frames) - 1))
    if frames[index] and data.draw(st.booleans()):
        frames[index] = frames[index][: data.draw(st.integers(0, len(frames[index]) - 1))]
    else:
        del frames[index]
    with pytest.raises(WireError):
        decode(frames)
