"""Messages spoilt at random, and what a server must answer to each."""

import struct
from collections.abc import Callable, Sequence, Set
from typing import Any

import msgpack
import numpy as np

from async_r1.errors import WireError
from async_r1.wire import decode
from tests.async_r1.slow_segment import Refused, read_segment_slowly
from tests.async_r1.test_messages import same

Frames = list[bytes]
Random = np.random.Generator

ODD: list[Any] = [
    None, True, -1, 2**31, 2**63, 1.5, float("nan"), "", "x" * 5000, b"\xff", [], {}, [[1, 2]],
    {"a": {"b": []}}, list(range(3000)),
]  # fmt: skip
KINDS = [
    "hello", "lease_request", "segment", "score", "heartbeat", "bye", "batch_request", "step_done",
    "finish",
]  # fmt: skip


def mutant(frames: Sequence[bytes], rng: Random) -> Frames:
    """The message, spoilt in one of many ways; at times not spoilt at all."""
    return MUTATIONS[int(rng.integers(len(MUTATIONS)))](list(frames), rng)


def verdict(
    frames: Frames,
    vocab_size: int,
    *,
    sent: Sequence[Frames],
    next_key: Any,
    others: Set[Any],
    coming: Any,
) -> str:
    """What a server must do with a message from an actor whose accepted segments are `sent`, all
    of one lease, and the next of which has `next_key`: "error", "revoked", "ack", or "unclear" if
    it is a good message of some other meaning. `others` are keys, without the prefix hash, of
    segments that another actor has sent, and `coming` is the one that it is about to send."""
    try:
        message = decode(frames)
    except WireError:
        return "error"
    if message.kind not in KINDS:
        return "error"
    if message.kind != "segment":
        return "unclear"
    try:
        segment = read_segment_slowly(message, vocab_size)
    except Refused:
        return "error"
    rollout_id, epoch, _, _ = key = (
        segment.rollout_id, segment.lease_epoch, segment.token_offset, segment.prefix_hash,
    )  # fmt: skip
    if key[:3] == coming:
        return "unclear"
    if (rollout_id, epoch) != next_key[:2]:
        return "error" if key[:3] in others else "revoked"
    if any(same(segment, read_segment_slowly(decode(known))) for known in sent):
        return "ack"  # whatever else the header holds
    return "unclear" if key == next_key else "error"


def _pick(frames: Frames, rng: Random) -> int:
    return int(rng.integers(len(frames)))


def _flip(frames: Frames, rng: Random) -> Frames:
    for _ in range(int(rng.integers(1, 9))):
        i = _pick(frames, rng)
        if frames[i]:
            frame = bytearray(frames[i])
            frame[int(rng.integers(len(frame)))] ^= 1 << int(rng.integers(8))
            frames[i] = bytes(frame)
    return frames


def _cut(frames: Frames, rng: Random) -> Frames:
    i = _pick(frames, rng)
    frames[i] = frames[i][: int(rng.integers(len(frames[i]) + 1))]
    return frames


def _lengthen(frames: Frames, rng: Random) -> Frames:
    i = _pick(frames, rng)
    frames[i] += rng.bytes(int(rng.integers(1, 40)))
    return frames


def _drop(frames: Frames, rng: Random) -> Frames:
    del frames[_pick(frames, rng)]
    return frames or [b""]


def _double(frames: Frames, rng: Random) -> Frames:
    i = _pick(frames, rng)
    return frames[: i + 1] + frames[i:]


def _shuffle(frames: Frames, rng: Random) -> Frames:
    return [frames[i] for i in rng.permutation(len(frames))]


def _noise(frames: Frames, rng: Random) -> Frames:
    return [rng.bytes(int(rng.integers(0, 60))) for _ in range(int(rng.integers(1, 6)))]


def _bomb(frames: Frames, rng: Random) -> Frames:
    count = struct.pack(">I", int(rng.integers(1, 2**32)))
    bombs = [
        b"\xdd" + count, b"\xdf" + count, b"\xc6" + count, b"\xdb" + count, b"\xc9" + count,
        b"\x91" * 100_000, b"\x81\xa1a" * 50_000, b"\xdd\x00\x00\x80\x00" + b"\x80" * 0x8000,
        b"\x94\x01\xa1x\x81\xa1y" + b"\x91" * 2000 + b"\xc0\x90", b"\xc1", b"\xd4\x00\x00",
    ]  # fmt: skip
    return [bombs[int(rng.integers(len(bombs)))], *frames[1:]]


def _crowd(frames: Frames, rng: Random) -> Frames:
    return frames + [b""] * int(rng.integers(1, 200))


def _header(change: Callable[[list[Any], Random], None]) -> Callable[[Frames, Random], Frames]:
    """Changes the header as an object."""

    def mutate(frames: Frames, rng: Random) -> Frames:
        header = msgpack.unpackb(frames[0])
        change(header, rng)
        return [msgpack.packb(header), *frames[1:]]

    return mutate


def _odd(rng: Random) -> Any:
    return ODD[int(rng.integers(len(ODD)))]


def _value(header: list[Any], rng: Random) -> None:
    names = [*header[2], "unheard_of"]
    header[2][names[int(rng.integers(len(names)))]] = _odd(rng)


def _field(header: list[Any], rng: Random) -> None:
    header[int(rng.integers(4))] = _odd(rng)


def _version(header: list[Any], rng: Random) -> None:
    header[0] = int(rng.integers(-5, 300))


def _kind(header: list[Any], rng: Random) -> None:
    header[1] = ["ack", "error", "welcome", "leases", "Segment", "\0", ""][int(rng.integers(7))]


def _table(header: list[Any], rng: Random) -> None:
    if header[3]:
        entry = header[3][int(rng.integers(len(header[3])))]
        odd = [*ODD, "i8", "O", "f8", "i4", "u1", "token_ids", 2**40, -(2**40)]
        entry[int(rng.integers(3))] = odd[int(rng.integers(len(odd)))]


def _number(header: list[Any], rng: Random) -> None:
    """A whole number off by a little: another rollout, lease, offset, hash."""
    names = [name for name, value in header[2].items() if type(value) is int]
    if names:
        header[2][names[int(rng.integers(len(names)))]] += int(rng.choice([-1, 1, 2, 1000]))


MUTATIONS: list[Callable[[Frames, Random], Frames]] = [
    _flip, _flip, _cut, _lengthen, _drop, _double, _shuffle, _noise, _bomb, _crowd,
    *map(_header, (_value, _field, _version, _kind, _table, _number)),
    lambda frames, rng: frames,
]  # fmt: skip
