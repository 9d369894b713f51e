"""A real buffer process killed for real, at named places and at any moment, under load."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_r1.journal_format import read_records
from async_r1.metrics import read_rows
from tests.buffer.crash_run import CrashRun

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CrashRun]]:
    runs: list[CrashRun] = []

    def make(**options: Any) -> CrashRun:
        runs.append(CrashRun(tmp_path / "run", **options))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


POINTS = ["write:30", "acknowledge:40", "group_close:5", "draw:2", "draw:4"]


@pytest.mark.slow
def test_killed_at_each_named_place(make: Callable[..., CrashRun]) -> None:
    run = make(num_updates=16)
    for point in POINTS:
        run.start(point)
        run.wait_for_death()
    run.start()
    run.end()
    assert run.log().count("went on from the journal") == len(POINTS)


@pytest.mark.slow
def test_killed_while_it_compacts(make: Callable[..., CrashRun]) -> None:
    run = make(num_updates=120, buffer={"journal_max_bytes": 4096})
    for point in ("write", "log", "switch", "clean"):
        run.start(f"compact_{point}:1")
        run.wait_for_death()
    run.start()
    run.end(whole=False)
    size = sum(path.stat().st_size for path in run.run_dir.journal.glob("*.log"))
    assert size < 2**18, "what the snapshots replaced is still there"


def killed_at_random(run: CrashRun, num_kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    run.start()
    for _ in range(num_kills):
        run.wait_for(len(run.ledger.batch_ids) + 1)
        try:
            run.buffer.wait(float(rng.exponential(0.06)))
        except subprocess.TimeoutExpired:
            run.buffer.send_signal(signal.SIGKILL)
        run.wait_for_death()
        run.start()
    run.end()


@pytest.mark.slow
def test_killed_at_ten_moments(make: Callable[..., CrashRun]) -> None:
    killed_at_random(make(num_updates=50), 10, seed=0)


@pytest.mark.soak
def test_killed_at_a_hundred_moments(make: Callable[..., CrashRun]) -> None:
    killed_at_random(make(num_updates=500), 100, seed=1)


@pytest.mark.slow
def test_a_flipped_byte_is_found_and_said(make: Callable[..., CrashRun]) -> None:
    """In the middle of what a killed buffer wrote; and half a record at its end."""
    run = make(num_updates=20)
    run.start("write:60")
    run.wait_for_death()
    (log,) = run.run_dir.journal.glob("*.log")
    data = bytearray(log.read_bytes())
    records = [r for r in read_records(run.run_dir.journal) if r.message.kind == "segment"]
    hit = records[len(records) // 2]
    data[(hit.offset + hit.end) // 2] ^= 0x10
    log.write_bytes(data)
    run.start()
    for thread in run.threads:
        thread.join(60)
    said = run.log()
    assert f"{log}: a torn end at byte" in said
    assert f"{log}: damage at byte {hit.offset}, {hit.end - hit.offset} bytes" in said
    assert "damaged places: 2" in said
    assert not run.failed and len(run.ledger.batch_ids) == 20
    assert read_rows(run.run_dir.metrics_file("buffer"))[-1]["journal/damaged_records"] == 2
