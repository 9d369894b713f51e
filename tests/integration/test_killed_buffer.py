"""A real run whose buffer is killed in the middle goes on, and ends as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from async_r1.journal_format import read_records
from async_r1.run_dir import RunDir, read_json
from tests.integration.runs import ROOT, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NUM_UPDATES = 8
DEADLINE_S = 200.0


def test_a_run_survives_the_death_of_its_buffer(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    command = [sys.executable, "-m", "async_r1", "launch", "experiment=smoke"]
    command += [f"run.dir={tmp_path}", "run.name=run", f"learner.num_updates={NUM_UPDATES}"]
    command += ["logging.console=plain", "buffer.keep_zero_variance=true"]
    launcher = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        for step in (2, 5):
            while steps(run) < step:
                assert launcher.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            os.kill(read_json(run.role_file("buffer"))["pid"], signal.SIGKILL)
        output, _ = launcher.communicate(timeout=DEADLINE_S)
    finally:
        launcher.kill()
    assert launcher.returncode == 0, output[-4000:]
    assert output.count("buffer was killed by SIGKILL") == 2
    learner = rows(run, "learner")
    assert [row["step"] for row in learner] == list(range(1, NUM_UPDATES + 1))
    assert [row["policy_version"] for row in learner] == list(range(NUM_UPDATES))
    messages = [record.message for record in read_records(run.journal)]
    assert [m.kind for m in messages].count("restarted") == 2
    done = [m.values["step"] for m in messages if m.kind == "step_done"]
    assert sorted(set(done)) == list(range(1, NUM_UPDATES + 1))
    refunded = {m.values["batch_id"] for m in messages if m.kind == "draw_refunded"}
    trained = [
        group
        for m in messages
        if m.kind == "draw" and m.values["batch_id"] not in refunded
        for group in m.values["group_ids"]
    ]
    assert len(trained) == len(set(trained)), "a group trained twice"


def steps(run: RunDir) -> int:
    path = run.metrics_file("learner")
    return path.read_text().count("\n") if path.exists() else 0
