"""A buffer under the load of many actors: bound, waits, memory and throughput.

    .venv/bin/python benchmarks/buffer_load.py [--actors 1000] [--versions 200] [--json]

A real buffer process; two processes that play its actors over TCP, each with a connection of its
own and rollouts of lognormal length up to 128k tokens in leases with a token budget; here a learner
that takes batches, trains nothing, and publishes. It checks every batch against the bound, reads
from the buffer's metrics how long suspended rollouts waited, and watches the buffer's memory.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import numpy as np
import psutil
from load_actors import SharedVersion

from async_r1.channels import Dealer
from async_r1.config import Config
from async_r1.messages import read_batch
from async_r1.metrics import read_rows
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import build, to_dict
from async_r1.wire import Message

TIMEOUT_S = 120.0


@dataclass
class Seen:
    """What the learner saw, one element per batch."""

    at_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    masked: list[int] = field(default_factory=list)
    staleness: list[int] = field(default_factory=list)  # largest of a trained token
    rss: list[int] = field(default_factory=list)  # of the buffer [bytes]


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--actors", type=int, default=1000, help="connections")
    parser.add_argument("--slots", type=int, default=2, help="rollouts at a time, of one actor")
    parser.add_argument("--versions", type=int, default=200, help="to publish")
    parser.add_argument("--groups", type=int, default=64, help="of 8 rollouts, in a batch")
    parser.add_argument("--eta", type=int, default=4, help="staleness bound")
    parser.add_argument("--median", type=float, default=2048, help="of the lengths [tokens]")
    parser.add_argument("--sigma", type=float, default=1.2, help="deviation of their logarithm")
    parser.add_argument("--top", type=int, default=131_072, help="longest rollout [tokens]")
    parser.add_argument("--segment", type=int, default=4096, help="tokens of a segment")
    parser.add_argument("--budget", type=int, default=16_384, help="tokens of a lease")
    parser.add_argument("--overdue", default="mask", choices=["mask", "wait", "drop"])
    parser.add_argument("--journal", action="store_true", help="keep a journal (on the disk)")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    args = parser.parse_args()
    if args.quick:
        args.actors, args.groups, args.versions = 40, 2, 12
        args.median, args.top, args.segment, args.budget = 256, 8192, 512, 1024
    facts = common.conditions(
        actors=f"{args.actors} of {args.slots} slots",
        lengths=f"lognormal, median {args.median:g}, sigma {args.sigma:g}, 1 to {args.top}",
        segments=args.segment,
        lease=f"{args.budget} tokens",
        batch=f"{args.groups} groups of 8",
        eta=args.eta,
        overdue=args.overdue,
        journal=args.journal,
        versions=args.versions,
    )
    common.print_conditions(facts)
    with tempfile.TemporaryDirectory() as directory:
        result = measure(args, Path(directory))
    show(result)
    return common.finish(args, {**result, **facts})


def config_of(args: argparse.Namespace) -> Config:
    """The run's config: enough live rollouts that some suspended ones must wait."""
    return build(
        Config,
        {
            "model": {"max_length": args.top + 1024},
            "task": {"num_train": 4096, "num_eval": 8, "max_new_tokens": args.top},
            "eval": {"every": 0},
            "actors": {
                "count": args.actors,
                "max_concurrent": args.slots,
                "prefetch": 0,
                "segment_tokens": args.segment,
                "rollout_token_budget": args.budget,
                "credit_bytes": max(65_536, 64 * args.segment),
            },
            "buffer": {"group_size": 8, "journal": args.journal},
            "learner": {
                "groups_per_update": args.groups,
                "micro_batch_tokens": args.top + 1024,
                "num_updates": args.versions,
            },
            "staleness": {"eta": args.eta, "overdue": args.overdue},
        },
    )


def measure(args: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Run buffer, actors and learner; what they saw."""
    version = SharedVersion(directory / "version")
    with contextlib.ExitStack() as stack:
        config = config_of(args)
        buffer, address, run_dir = stack.enter_context(buffer_process(config, directory / "run"))
        seen = Seen()
        drivers = start_drivers(args, address, directory / "version")
        try:
            for driver in drivers:
                assert driver.stdout is not None
                assert driver.stdout.readline() == "ready\n", "the actors did not join"
            started = time.monotonic()
            learn(args, address, version, psutil.Process(buffer.pid), seen)
            elapsed = time.monotonic() - started
            outputs = [driver.communicate(timeout=TIMEOUT_S)[0].split() for driver in drivers]
        finally:
            for driver in drivers:
                driver.kill()
        assert buffer.wait(TIMEOUT_S) == 0, "the buffer failed"
        rows = read_rows(run_dir.metrics_file("buffer"))
    return {
        **summarize(seen, rows),
        "eta": args.eta,
        # Each lease that others get while a rollout waits belongs to one of the live rollouts.
        "wait_leases_bound": (args.eta + 1) * args.groups * 8 * -(-args.top // args.budget),
        "longest_rollout": max(int(longest) for _, longest in outputs),
        "sent_tokens": sum(int(tokens) for tokens, _ in outputs),
        "tokens_per_s": sum(int(tokens) for tokens, _ in outputs) / elapsed,
        "elapsed_s": elapsed,
    }


@contextlib.contextmanager
def buffer_process(
    config: Config, path: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str, RunDir]]:
    """`python -m buffer` on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    run_dir = RunDir.create(path)
    resolved = Resolved(
        config=config,
        run_dir=str(path),
        buffer_address=address,
        weights_address="",
        started_at=time.time(),
    )
    write_json(run_dir.resolved, to_dict(resolved))
    command = [sys.executable, "-m", "buffer", "--config", str(run_dir.resolved)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        yield process, address, run_dir
    finally:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    path = [str(common.ROOT), str(common.ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **common.ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)}


def start_drivers(
    args: argparse.Namespace, address: str, version_file: Path
) -> list[subprocess.Popen[str]]:
    """Two processes, half of the actors each."""
    half = args.actors // 2
    drivers = []
    for first, count in ((0, half), (half, args.actors - half)):
        values = [address, version_file, first, count, args.slots, args.segment]
        values += [args.median, args.sigma, args.top, args.seed]
        command = [sys.executable, str(Path(__file__).with_name("load_actors.py"))]
        drivers.append(
            subprocess.Popen(
                [*command, *map(str, values)], env=environment(), stdout=subprocess.PIPE, text=True
            )
        )
    return drivers


def learn(
    args: argparse.Namespace,
    address: str,
    version: SharedVersion,
    buffer: psutil.Process,
    seen: Seen,
) -> None:
    """Take a batch per version, check it, publish; then end the run."""
    dealer = Dealer(address, "learner_000")
    ask(dealer, "welcome", "hello", role="learner", name="learner_000", policy_version=0)
    for step in range(1, args.versions + 1):
        batch = read_batch(ask(dealer, "batch", "batch_request", policy_version=step - 1))
        ages = (batch.policy_version - batch.versions)[batch.mask == 1]
        seen.at_s.append(time.monotonic())
        seen.tokens.append(len(batch.mask))
        seen.masked.append(int((batch.mask == 0).sum()))
        seen.staleness.append(int(ages.max()))
        seen.rss.append(buffer.memory_info().rss)
        version.set(step)
        values = {"batch_id": batch.batch_id, "step": step, "trained_tokens": len(ages)}
        ask(dealer, "ok", "step_done", policy_version=step, **values)
    ask(dealer, "finished", "finish", policy_version=args.versions)
    dealer.send(Message("bye"))
    dealer.close()


def ask(dealer: Dealer, answer: str, kind: str, **values: Any) -> Message:
    """Send a message and wait for its answer."""
    dealer.send(Message(kind, values))
    message = dealer.receive(TIMEOUT_S)
    assert message is not None, f"no {answer} in {TIMEOUT_S:g} s"
    assert message.kind == answer, message
    return message


def summarize(seen: Seen, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures; memory by halves of the run after its first quarter."""
    start = len(seen.rss) // 4
    middle = (start + len(seen.rss)) // 2
    first, second = np.mean(seen.rss[start:middle]), np.mean(seen.rss[middle:])
    gaps = np.diff(seen.at_s)
    return {
        "max_staleness": max(seen.staleness),
        "masked_frac": sum(seen.masked) / sum(seen.tokens),
        "trained_tokens": sum(seen.tokens) - sum(seen.masked),
        "max_wait_versions": max(row["leases/max_wait_versions"] for row in rows),
        "max_wait_leases": max(row["leases/max_wait_leases"] for row in rows),
        "suspended": sum(row["leases/suspended"] for row in rows),
        "max_waiting": max(row["leases/waiting"] for row in rows),
        "leases": sum(row["leases/granted"] for row in rows),
        "max_live_groups": max(row["groups/live"] for row in rows),
        "rss_mib": float(np.max(seen.rss)) / 2**20,
        "rss_ratio": float(second / first),
        "batch_s": common.median(gaps),
        "batch_p99_s": common.quantile(gaps, 0.99),
    }


def show(result: dict[str, Any]) -> None:
    common.print_table(
        ["", "value"], [[name.replace("_", " "), value] for name, value in result.items()]
    )
    print(
        f"bound: {result['max_staleness']} of {result['eta']} versions; the longest wait of a "
        f"suspended rollout: {result['max_wait_versions']} versions (at most eta + 1), while "
        f"{result['max_wait_leases']:,} leases went to others;\nmemory of the buffer, second half "
        f"over first: {result['rss_ratio']:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
