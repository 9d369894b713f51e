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
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import zmq
from buffer_ingest_processes import Bare, bare_process, buffer_process, cpu_s, resident_bytes
from buffer_ingest_traffic import (
    LONG,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    SHORT,
    Cell,
    Frames,
    closed_loop,
    encode,
    lease_and_encode,
    open_loop,
    touch_memory,
)

GOAL_LIMIT, GOAL_BARE = 0.6, 0.5
SEGMENTS = {64: 32_768, 1024: 16_384, 16_384: 2_048}  # per measurement, by tokens

# What one accelerator samples, as an assumption: see docs/results/buffer.md.
TOKENS_PER_S_H200 = 20_000


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


if __name__ == "__main__":
    sys.exit(main())
