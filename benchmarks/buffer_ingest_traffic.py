"""What the driver of `buffer_ingest.py` sends: segments of leased rollouts, and how fast."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq

LONG, SHORT = 16_384, 64  # segments that have a goal [tokens]
PER_ROLLOUT = {64: 64, 1024: 32, 16_384: 8}
VOCAB_SIZE = 151_936
PROMPT_TOKENS = 200
MAX_WAITING = 1024  # segments unacknowledged, over all connections
MAX_WAITING_BYTES = 64 << 20
BURST_S = 0.001
DEADLINE_S = 120.0

Frames = list[bytes]

received: dict[Any, int] = {}  # leases by socket
made: tuple[Any, Any] | None = None
frames_by_place: dict[tuple[int, int, int], bytes] = {}


@dataclass(frozen=True)
class Cell:
    """One size of segments from one number of connections."""

    tokens: int
    connections: int
    segments: int  # in all

    @property
    def window(self) -> int:
        """Segments that one connection may have unacknowledged."""
        by_bytes = MAX_WAITING_BYTES // (8 * self.tokens)
        return max(1, min(MAX_WAITING, by_bytes) // self.connections)


def closed_loop(
    sockets: Sequence["zmq.Socket[bytes]"],
    messages: Sequence[Sequence[Frames]],
    window: int,
    count_acks: Callable[[Frames], int] | None,
) -> float:
    """Seconds to send all, with at most `window` unacknowledged per socket; without a counter of
    acknowledgements, until one answer comes."""
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    index = {socket: i for i, socket in enumerate(sockets)}
    copy = len(messages[0][-1][-1]) < 65536
    sent = [0] * len(sockets)
    missing = sum(map(len, messages)) if count_acks else 1

    def send(i: int, count: int) -> None:
        for frames in messages[i][sent[i] : sent[i] + count]:
            sockets[i].send_multipart(frames, copy=copy)
        sent[i] += count

    started = time.perf_counter()
    for first in range(0, min(window, max(map(len, messages))), 16):  # all connections at once
        for i in range(len(sockets)):
            send(i, min(16, window - first))
    while missing > 0:
        ready = poller.poll(DEADLINE_S * 1000)
        assert ready, f"{missing} answers missing after {DEADLINE_S:g} s"
        for socket, _ in ready:
            got = 0
            while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                frames = socket.recv_multipart()
                got += count_acks(frames) if count_acks else 1
            missing -= got
            send(index[socket], got)
    return time.perf_counter() - started


def open_loop(
    sockets: Sequence["zmq.Socket[bytes]"],
    messages: Sequence[Sequence[Frames]],
    rate: float,
    count_acks: Callable[[Frames], int],
) -> list[float]:
    """Seconds from sending to acknowledgement, per segment; sent at `rate` a second, in bursts."""
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    sent_at: dict[Any, deque[float]] = {socket: deque() for socket in sockets}
    copy = len(messages[0][-1][-1]) < 65536
    turns = iter(  # connections in turn, each in its order
        (sockets[i], messages[i][j])
        for j in range(max(map(len, messages)))
        for i in range(len(sockets))
        if j < len(messages[i])
    )
    total, sent, waits = sum(map(len, messages)), 0, list[float]()
    started = time.perf_counter()
    while len(waits) < total:
        due = min(total, int((time.perf_counter() - started) * rate) + 1)
        while sent < due:
            socket, frames = next(turns)
            sent_at[socket].append(time.perf_counter())
            socket.send_multipart(frames, copy=copy)
            sent += 1
        for socket, _ in poller.poll(BURST_S * 1000 if sent < total else DEADLINE_S * 1000):
            while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                got = count_acks(socket.recv_multipart())
                now = time.perf_counter()
                waits += [now - sent_at[socket].popleft() for _ in range(got)]
        assert time.perf_counter() - started < DEADLINE_S, "acknowledgements stay away"
    return waits


def lease_and_encode(cell: Cell, socket: "zmq.Socket[bytes]", segments: int) -> list[Frames]:
    """Lease the rollouts that this many segments make, and encode them, rollouts in turn."""
    from async_r1.messages import read_leases
    from async_r1.wire import Message
    from async_r1.wire import encode as to_frames

    per_rollout = min(PER_ROLLOUT[cell.tokens], segments)
    count = -(-segments // per_rollout)
    granted = received.get(socket, 0)
    values = {"free_slots": count, "leases_received": granted}
    socket.send_multipart(to_frames(Message("lease_request", values)))
    leases = []
    while len(leases) < count:
        leases += read_leases(receive(socket, "leases"))
    received[socket] = granted + count
    each = [encode(cell, range(per_rollout), lease.rollout_id) for lease in leases]
    return [messages[j] for j in range(per_rollout) for messages in each][:segments]


def encode(cell: Cell, numbers: range, rollout_id: int | None) -> list[Frames]:
    """Segments of one rollout; without an id of a rollout that nobody leased."""
    from async_r1 import segment_hash, wire
    from async_r1.segment_messages import write_segment
    from async_r1.types import Segment, SegmentStatus, VersionSpan

    global made
    if made is None or len(made[0]) < 8 * cell.tokens:
        rng = np.random.default_rng(0)
        made = (
            rng.integers(0, VOCAB_SIZE, 16 * LONG).astype(np.int32),
            -rng.exponential(1.0, 16 * LONG).astype(np.float32),
        )
    prefix_hash, messages = 0, []
    slots = len(made[0]) // cell.tokens
    for number in numbers:
        part = slice(number % slots * cell.tokens, (number % slots + 1) * cell.tokens)
        token_ids = made[0][part]
        segment = Segment(
            rollout_id=rollout_id or 0,
            lease_epoch=1,
            token_offset=number * cell.tokens,
            prefix_hash=prefix_hash,
            status=SegmentStatus.STREAMING,
            finish_reason=None,
            spans=(VersionSpan(0, cell.tokens),),
            prefill_version=0,
            swaps=(),
            token_ids=token_ids,
            behavior_logprobs=made[1][part],
            prompt_ids=made[0][:PROMPT_TOKENS] if not number else None,
        )
        prefix_hash = segment_hash.extend(prefix_hash, token_ids)
        header, *arrays = wire.encode(write_segment(segment))
        # Rollouts share their tokens, so that the driver's memory stays small.
        shared = [cached(cell.tokens, number, i, array) for i, array in enumerate(arrays)]
        messages.append([bytes(header), *shared])
    return messages


def cached(tokens: int, number: int, index: int, array: bytes | memoryview) -> bytes:
    key = (tokens, number % (16 * LONG // tokens) if number else -1, index)
    return frames_by_place.setdefault(key, bytes(array))


def receive(socket: "zmq.Socket[bytes]", kind: str) -> Any:
    from async_r1.wire import decode

    assert socket.poll(DEADLINE_S * 1000), f"no {kind} from the buffer"
    message = decode(socket.recv_multipart())
    assert message.kind == kind, message
    return message


def touch_memory(cell: Cell) -> None:
    """What the buffer will keep and write of a cell, half of it again at half rate, and as much."""
    np.ones(6 * 8 * cell.tokens * cell.segments, np.uint8)
