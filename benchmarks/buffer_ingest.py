"""Segments per second into a real buffer process, journal on, over what the machine allows.

    .venv/bin/python benchmarks/buffer_ingest.py [--rounds 3] [--json]

One driver process plays all actors: it leases rollouts from `python -m buffer`, has their segments
encoded before the clock starts, and sends them over TCP loopback with a bounded number
unacknowledged. The limits, by the same driver with the same bytes in the same round: `zmq`, a
ROUTER that receives and forgets, without an answer; `file`, the frames written to a file beside
the journal, nothing received; `loop`, for the shortest segments, a ROUTER that receives one,
writes it and answers it. With `--pin` the driver has one core and the other side another; else, as
in a run, the system places the two threads that each of them has.

`fraction_of_limit_16384`: over the slower of zmq and file, for 16,384 tokens; at least 0.6.
`fraction_of_bare_64`: over the loop, for 64 tokens; at least 0.5. Both are medians over rounds, of
the worst number of connections. Acknowledgement latency is measured afterwards at half the rate.
The last columns are the share of its core that the buffer had, and the processor time per segment
of each side, which says more than the rates on a machine that does something else as well.
Memory is touched before each side: the first use of a page of a virtual machine's costs its host
more than anything that is measured here, and only the buffer would pay it, since only it keeps.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import zmq

SIDES = Path(__file__).with_name("buffer_ingest_sides.py")
GOAL_LIMIT, GOAL_BARE = 0.6, 0.5
LONG, SHORT = 16_384, 64  # segments that have a goal [tokens]
SEGMENTS = {64: 32_768, 1024: 16_384, 16_384: 2_048}  # per measurement, by tokens
PER_ROLLOUT = {64: 64, 1024: 32, 16_384: 8}
VOCAB_SIZE = 151_936
PROMPT_TOKENS = 200
MAX_WAITING = 1024  # segments unacknowledged, over all connections
MAX_WAITING_BYTES = 64 << 20
BURST_S = 0.001
DEADLINE_S = 120.0

# What one accelerator samples, as an assumption: see docs/results/buffer.md.
TOKENS_PER_S_H200 = 20_000

Frames = list[bytes]


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


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of every cell, sides in turn")
    parser.add_argument("--tokens", type=int, nargs="*", default=list(SEGMENTS), help="sizes")
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--pin", action="store_true", help="each side to a core of its own")
    parser.add_argument("--dir", type=Path, help="where journal and file go (default: temporary)")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.connections = 1, [2]
    cores = sorted(os.sched_getaffinity(0))
    facts = common.conditions(
        pinned=args.pin,
        unacknowledged=f"{MAX_WAITING} segments or {MAX_WAITING_BYTES >> 20} MiB in all",
        fsync="none on either side",
        bytes_per_token="8 on the wire (id, log-prob)",
        rounds=args.rounds,
    )
    common.print_conditions(facts)
    scale = 64 if args.quick else 1
    cells = [
        Cell(tokens, connections, SEGMENTS[tokens] // scale)
        for tokens in args.tokens
        for connections in args.connections
    ]
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        measured = measure(args, cells, Path(directory), cores)
    return report(args, measured, facts)


def measure(
    args: argparse.Namespace, cells: Sequence[Cell], directory: Path, cores: list[int]
) -> list[dict[str, Any]]:
    """A row per cell and round: tokens/s of every side, and what the buffer's cost was."""
    if args.pin:
        os.sched_setaffinity(0, {cores[-1]})
    other = cores[:1] if args.pin else cores
    rows = []
    with bare_process(directory, other) as bare:
        for number in range(args.rounds):
            for cell in cells:
                row: dict[str, Any] = {
                    "tokens": cell.tokens, "connections": cell.connections, "round": number,
                }  # fmt: skip
                touch_memory(cell)
                with buffer_process(cell, directory / "run", other) as (actors, pid):
                    row |= ingest(cell, actors, pid)
                touch_memory(cell)
                row |= limits(cell, bare)
                rows.append(row)
    return rows


def report(args: argparse.Namespace, rows: list[dict[str, Any]], facts: dict[str, Any]) -> int:
    """Print medians over the rounds; the two figures are of the worst number of connections."""
    table, cells = [], []
    for key in dict.fromkeys((row["tokens"], row["connections"]) for row in rows):
        same = [row for row in rows if (row["tokens"], row["connections"]) == key]
        cell: dict[str, Any] = {
            name: common.median(row[name] for row in same)
            for name in same[0]
            if name != "round" and same[0][name] is not None
        }
        cell["of_limit"] = statistics.median(
            row["buffer"] / min(row["zmq"], row["file"]) for row in same
        )
        if same[0]["loop"]:
            cell["of_bare"] = statistics.median(row["buffer"] / row["loop"] for row in same)
        cells.append(cell)
        table.append([
            f"{key[0]:,} x {key[1]}", cell["buffer"], cell["buffer"] / key[0], cell["zmq"],
            cell["file"], cell.get("loop"), cell["of_limit"], cell.get("of_bare"),
            cell["p50_ms"], cell["p99_ms"], cell["bytes_per_token"], cell["cpu"],
            cell["cpu_us"], cell["zmq_cpu_us"], cell.get("loop_cpu_us"),
        ])  # fmt: skip
    common.print_table(
        ["tokens x conn.", "tokens/s", "segments/s", "zmq", "file", "loop", "of limit", "of loop",
         "p50 ms", "p99 ms", "bytes/token", "CPU", "us", "zmq us", "loop us"],
        table,
    )  # fmt: skip
    result: dict[str, Any] = {"cells": cells, **facts}
    for name, tokens, field, goal in (
        ("fraction_of_limit_16384", LONG, "of_limit", GOAL_LIMIT),
        ("fraction_of_bare_64", SHORT, "of_bare", GOAL_BARE),
    ):
        found = [cell[field] for cell in cells if cell["tokens"] == tokens]
        result[name] = min(found, default=None)
        if found:
            verdict = "reached" if min(found) >= goal else "MISSED"
            print(f"{name} {min(found):.3f}, at least {goal} wanted: {verdict}")
    slowest = min(cells, key=lambda cell: float(cell["buffer"]))
    result["h200s"] = slowest["buffer"] / TOKENS_PER_S_H200
    print(
        f"the slowest, segments of {slowest['tokens']:.0f} tokens: {slowest['buffer']:,.0f} "
        f"tokens/s, what {result['h200s']:.0f} H200s sample at {TOKENS_PER_S_H200:,} each"
    )
    return common.finish(args, result)


# ---- the driver


def ingest(cell: Cell, actors: list["zmq.Socket[bytes]"], pid: int) -> dict[str, Any]:
    """The buffer's side of a cell, at full rate and then, on a fresh lease, at half of it."""
    from async_r1.wire import decode

    def acknowledged(frames: Frames) -> int:
        message = decode(frames)
        assert message.kind == "ack", message
        return len(message.values["segments"])

    half = cell.segments // 2
    full = [lease_and_encode(cell, actor, cell.segments // cell.connections) for actor in actors]
    calm = [lease_and_encode(cell, actor, half // cell.connections) for actor in actors]
    cpu, memory = cpu_s(pid), resident_bytes(pid)
    seconds = closed_loop(actors, full, cell.window, acknowledged)
    num_tokens = cell.tokens * sum(map(len, full))
    rate = num_tokens / seconds
    row = {
        "buffer": rate,
        "cpu": (cpu_s(pid) - cpu) / seconds,
        "cpu_us": 1e6 * (cpu_s(pid) - cpu) * cell.tokens / num_tokens,
        "bytes_per_token": (resident_bytes(pid) - memory) / num_tokens,
    }
    waits = open_loop(actors, calm, rate / cell.tokens / 2, acknowledged)
    return row | {
        "p50_ms": 1000 * (common.quantile(waits, 0.5) or 0),
        "p99_ms": 1000 * (common.quantile(waits, 0.99) or 0),
    }


def limits(cell: Cell, bare: "Bare") -> dict[str, Any]:
    """The bare sides of a cell [tokens/s]."""
    per_connection = cell.segments // cell.connections
    messages = [encode(cell, range(per_connection), None)] * cell.connections
    count = per_connection * cell.connections
    num_tokens = count * cell.tokens
    sockets = [bare.connect() for _ in range(cell.connections)]
    try:
        bare.ask(side="discard", count=count, copy=cell.tokens < LONG)
        cpu = cpu_s(bare.process.pid)
        zmq_s = closed_loop(sockets, messages, count, None)
        bare.answer()
        zmq_cpu = cpu_s(bare.process.pid) - cpu
        file_s = bare.ask(side="file", count=count, sizes=[len(f) for f in messages[0][-1]])
        loop = loop_cpu = None
        if cell.tokens == SHORT:
            bare.ask(side="loop", count=count)
            cpu = cpu_s(bare.process.pid)
            loop = num_tokens / closed_loop(sockets, messages, cell.window, lambda frames: 1)
            bare.answer()
            loop_cpu = 1e6 * (cpu_s(bare.process.pid) - cpu) / count
    finally:
        for socket in sockets:
            socket.close()
    return {
        "zmq": num_tokens / zmq_s,
        "file": num_tokens / file_s["seconds"],
        "loop": loop,
        "zmq_cpu_us": 1e6 * zmq_cpu / count,
        "loop_cpu_us": loop_cpu,
    }


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


received: dict[Any, int] = {}  # leases by socket


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


made: tuple[Any, Any] | None = None
frames_by_place: dict[tuple[int, int, int], bytes] = {}


def cached(tokens: int, number: int, index: int, array: bytes | memoryview) -> bytes:
    key = (tokens, number % (16 * LONG // tokens) if number else -1, index)
    return frames_by_place.setdefault(key, bytes(array))


# ---- the processes


def receive(socket: "zmq.Socket[bytes]", kind: str) -> Any:
    from async_r1.wire import decode

    assert socket.poll(DEADLINE_S * 1000), f"no {kind} from the buffer"
    message = decode(socket.recv_multipart())
    assert message.kind == kind, message
    return message


@contextlib.contextmanager
def buffer_process(
    cell: Cell, path: Path, cores: list[int]
) -> Iterator[tuple[list["zmq.Socket[bytes]"], int]]:
    """`python -m buffer` as the launcher starts it, and the sockets of actors that it welcomed."""
    from async_r1.plan import BUFFER_MALLOC
    from async_r1.wire import Message
    from async_r1.wire import encode as to_frames

    resolved = prepare(cell, path)
    log = path / "buffer.log"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "buffer", "--config", str(resolved)],
        env={
            **os.environ,
            **common.ONE_THREAD,
            "GLIBC_TUNABLES": BUFFER_MALLOC,
            "PYTHONPATH": str(common.ROOT),
        },
        stderr=log.open("w"),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    address = json.loads(resolved.read_text())["buffer_address"]
    sockets = []
    try:
        for index in range(cell.connections):
            sockets.append(dealer(address, f"actor_{index:03d}"))
            hello = Message("hello", {"role": "actor", "index": index})
            sockets[-1].send_multipart(to_frames(hello))
        for socket in sockets:
            receive(socket, "welcome")
        yield sockets, process.pid
    except AssertionError as error:
        raise SystemExit(f"{error}\n{log.read_text()[-3000:]}") from None
    finally:
        for socket in sockets:
            socket.close()
        process.terminate()
        process.wait(20)
        shutil.rmtree(path)


def prepare(cell: Cell, path: Path) -> Path:
    """The resolved configuration that a launcher would have written; all leases admitted."""
    from async_r1.compose import compose
    from async_r1.ports import free_ports
    from async_r1.role import Resolved
    from async_r1.run_dir import RunDir, write_json
    from async_r1.schema import to_dict

    run_dir = RunDir.create(path)
    model = path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"vocab_size": VOCAB_SIZE}))
    max_new = cell.tokens * PER_ROLLOUT[cell.tokens]
    config = compose(
        [
            f"model.path={model}",
            f"model.max_length={2 * max_new}",
            f"task.max_new_tokens={max_new}",
            f"actors.count={cell.connections}",
            "buffer.group_size=8",
            "buffer.max_size=100000",
            "learner.groups_per_update=100000",
            "staleness.eta=0",
            "eval.every=0",
        ]
    )
    buffer_port, weights_port = free_ports(config.run.host, 2)
    resolved = Resolved(
        config=config,
        run_dir=str(run_dir.root),
        buffer_address=f"tcp://{config.run.host}:{buffer_port}",
        weights_address=f"tcp://{config.run.host}:{weights_port}",
        started_at=time.time(),
    )
    write_json(run_dir.resolved, to_dict(resolved))
    return run_dir.resolved


class Bare:
    """The process of the bare sides."""

    def __init__(self, directory: Path, cores: list[int]) -> None:
        from async_r1.ports import free_port

        self._address = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
        self._connected = 0
        self.process = subprocess.Popen(
            [sys.executable, str(SIDES), self._address, str(directory / "bare")],
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def connect(self) -> "zmq.Socket[bytes]":
        self._connected += 1
        return dealer(self._address, f"bare_{self._connected}")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))


@contextlib.contextmanager
def bare_process(directory: Path, cores: list[int]) -> Iterator[Bare]:
    bare = Bare(directory, cores)
    try:
        yield bare
    finally:
        bare.process.kill()
        bare.process.wait()


def dealer(address: str, name: str) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, f"{name}/{os.getpid()}".encode())
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    return socket


def touch_memory(cell: Cell) -> None:
    """What the buffer will keep and write of a cell, half of it again at half rate, and as much."""
    np.ones(6 * 8 * cell.tokens * cell.segments, np.uint8)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
