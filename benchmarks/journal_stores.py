"""Which embedded store the journal is on: an append-only log, SQLite in WAL mode, or LMDB.

    .venv/bin/python benchmarks/journal_stores.py [--lmdb PYTHON] [--json]

The same records (segments of 64, 1,024 and 16,384 tokens: a header and two arrays, 8 bytes a token)
go into each store in batches, one write or transaction a batch, as the buffer's loop makes them
under load. Each fsync policy is measured: `always` forces every batch to the disk, `interval` once
a second, `off` leaves it to the system (SQLite: synchronous=FULL, OFF with a checkpoint a second,
OFF; LMDB: sync, nosync with a sync a second, nosync). Beside them `bare`: the same bytes through
`write` alone. Read back in order afterwards, as a restart does. LMDB is no dependency: for its rows
make an environment of its own and name it,

    python3 -m venv /tmp/lmdb && /tmp/lmdb/bin/pip install lmdb numpy msgpack
    .venv/bin/python benchmarks/journal_stores.py --lmdb /tmp/lmdb/bin/python
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCHES = {64: 64, 1024: 16, 16384: 4}  # tokens of a segment: segments in a batch
POLICIES = ("off", "interval", "always")
INTERVAL_S = 1.0
TIMEOUT_S = 600.0


def main() -> int:
    import common

    parser = common.parser(__doc__)
    parser.add_argument("--lmdb", default="", help="a Python that has lmdb; empty: without it")
    parser.add_argument("--dir", default="", help="where the stores go (default: temporary)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of writing, for each figure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each store; medians")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.rounds = 0.1, 1
    stores = ["log", "sqlite", "bare", *(["lmdb"] if args.lmdb else [])]
    facts = common.conditions(
        batches=", ".join(f"{count} of {tokens} tokens" for tokens, count in BATCHES.items()),
        seconds=args.seconds, rounds=args.rounds, directory=args.dir or tempfile.gettempdir(),
    )  # fmt: skip
    common.print_conditions(facts)
    rows = []
    for tokens in BATCHES:
        for policy in POLICIES:
            found: dict[str, list[dict[str, float]]] = {store: [] for store in stores}
            for _ in range(args.rounds):
                for store in stores:
                    found[store].append(side(args, store, policy, tokens))
            for store in stores:
                medians = {
                    name: statistics.median(row[name] for row in found[store])
                    for name in found[store][0]
                }
                rows.append({"tokens": tokens, "fsync": policy, "store": store, **medians})
    head = ("tokens", "fsync", "store", "segments/s", "MB/s", "batch p50 [us]", "p99 [us]",
            "bytes/bytes", "read MB/s")  # fmt: skip
    print("".join(f"{name:>16}" for name in head))
    for row in rows:
        cells = [row["tokens"], row["fsync"], row["store"], f"{row['segments_per_s']:,.0f}",
                 f"{row['mb_per_s']:,.0f}", f"{row['p50_us']:,.0f}", f"{row['p99_us']:,.0f}",
                 f"{row['space']:.2f}", f"{row['read_mb_per_s']:,.0f}"]  # fmt: skip
        print("".join(f"{cell:>16}" for cell in cells))
    if args.json:
        print(json.dumps({**facts, "rows": rows}))
    return 0


def side(args: Any, store: str, policy: str, tokens: int) -> dict[str, float]:
    """One store in a process of its own."""
    python = args.lmdb if store == "lmdb" else sys.executable
    with tempfile.TemporaryDirectory(dir=args.dir or None) as directory:
        job = [store, policy, str(tokens), str(args.seconds), directory]
        root = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run(
            [python, __file__, "--side", *job],
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    assert done.returncode == 0, done.stderr
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(store: str, policy: str, tokens: int, seconds: float, directory: Path) -> None:
    """Write for a while, then read everything back."""
    import numpy as np

    from async_r1.wire import Message, encode

    rng = np.random.default_rng(0)
    count = BATCHES[tokens]
    values = {"rollout_id": 1, "lease_epoch": 1, "token_offset": 0, "prefix_hash": 2**60,
              "status": "streaming", "finish_reason": "", "spans": [[3, tokens]],
              "prefill_version": 3, "swaps": []}  # fmt: skip
    frames = []
    for _ in range(max(count, 64)):
        arrays = {
            "token_ids": rng.integers(0, 1 << 17, tokens).astype(np.int32),
            "behavior_logprobs": -rng.random(tokens).astype(np.float32),
        }
        encoded = encode(Message("segment", values, arrays))
        frames.append([bytes(frame) for frame in encoded])
    payload = sum(map(len, frames[0]))
    write, read, close = STORES[store](directory, policy)
    durations, batches, started = [], 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = [frames[(batches * count + i) % len(frames)] for i in range(count)]
        before = time.perf_counter()
        write(batch)
        durations.append(time.perf_counter() - before)
        batches += 1
    elapsed = time.perf_counter() - started
    close()
    used = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    before = time.perf_counter()
    num_read = sum(1 for _ in read())
    read_s = time.perf_counter() - before
    written = batches * count * payload
    assert num_read == batches * count or store == "bare", (num_read, batches * count)
    durations.sort()
    print(
        json.dumps(
            {
                "segments_per_s": batches * count / elapsed,
                "mb_per_s": written / elapsed / 1e6,
                "p50_us": 1e6 * durations[len(durations) // 2],
                "p99_us": 1e6 * durations[int(0.99 * (len(durations) - 1))],
                "space": used / written,
                "read_mb_per_s": written / read_s / 1e6,
            }
        )
    )


Batch = list[list[bytes]]
Opened = tuple[Callable[[Batch], None], Callable[[], Iterator[Any]], Callable[[], None]]


class Interval:
    """Whether it is time to force the disk."""

    def __init__(self, policy: str) -> None:
        self._policy, self._last = policy, time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if self._policy == "interval" and now - self._last >= INTERVAL_S:
            self._last = now
            return True
        return self._policy == "always"


def log_store(directory: Path, policy: Any) -> Opened:
    from async_r1.journal_format import read_file
    from async_r1.wire import Message
    from buffer.journal import FileJournal

    journal = FileJournal(directory / "log", fsync=policy, fsync_interval_s=INTERVAL_S)
    message = Message("segment")

    def write(batch: Batch) -> None:
        for frames in batch:
            journal.append(message, frames=frames, peer=b"actor_000/1")
        journal.flush()

    path = directory / "log" / f"{0:020d}.log"
    return write, lambda: read_file(path), journal.close


def sqlite_store(directory: Path, policy: str) -> Opened:
    path = directory / "store.db"
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={'FULL' if policy == 'always' else 'OFF'}")
    database.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, peer BLOB, frames BLOB)")
    interval = Interval(policy if policy == "interval" else "off")

    def write(batch: Batch) -> None:
        database.execute("BEGIN")
        rows = [(b"actor_000/1", b"".join(frames)) for frames in batch]
        database.executemany("INSERT INTO records (peer, frames) VALUES (?, ?)", rows)
        database.execute("COMMIT")
        if interval.due():
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.close(file)

    def read() -> Iterator[Any]:
        return iter(sqlite3.connect(path).execute("SELECT peer, frames FROM records ORDER BY id"))

    return write, read, database.close


def lmdb_store(directory: Path, policy: str) -> Opened:
    import lmdb

    always = policy == "always"
    path = str(directory / "lmdb")
    environment = lmdb.open(path, map_size=1 << 36, sync=always, metasync=always)
    interval = Interval(policy if policy == "interval" else "off")
    number = 0

    def write(batch: Batch) -> None:
        nonlocal number
        with environment.begin(write=True) as transaction:
            for frames in batch:
                key = number.to_bytes(8, "big")
                transaction.put(key, b"".join(frames), append=True)
                number += 1
        if interval.due():
            environment.sync(True)

    def read() -> Iterator[Any]:
        with lmdb.open(path, map_size=1 << 36, readonly=True).begin() as transaction:
            for _, value in transaction.cursor():
                yield bytes(value)

    return write, read, environment.close


def bare_store(directory: Path, policy: str) -> Opened:
    path = directory / "bare"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    interval = Interval(policy)

    def write(batch: Batch) -> None:
        os.write(file, b"".join([part for frames in batch for part in frames]))
        if interval.due():
            os.fsync(file)

    def read() -> Iterator[Any]:
        with path.open("rb") as opened:
            while opened.read(1 << 20):
                yield None

    return write, read, lambda: os.close(file)


STORES: dict[str, Callable[[Path, str], Opened]] = {
    "log": log_store,
    "sqlite": sqlite_store,
    "lmdb": lmdb_store,
    "bare": bare_store,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        store, policy, tokens, seconds, directory = sys.argv[2:]
        measure(store, policy, int(tokens), float(seconds), Path(directory))
        sys.exit(0)
    sys.exit(main())
