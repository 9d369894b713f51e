"""Real roles, ended from outside: engine processes and collectives leave nothing behind either."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from async_r1.run_dir import RunDir, read_json
from tests.integration.runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class RealRun:
    """A run in the background; all its processes carry a mark that is not the launcher's own."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.run = RunDir(directory / "run")
        self._directory = directory
        self._model = model
        self._mark = uuid.uuid4().hex

    def start(self, *overrides: str) -> None:
        arguments = ["experiment=smoke", f"model.path={self._model}", f"run.dir={self._directory}"]
        arguments += ["run.name=run", "learner.num_updates=1000", "buffer.keep_zero_variance=true"]
        self.launcher = subprocess.Popen(
            [sys.executable, "-m", "async_r1", "launch", *arguments, *overrides],
            env={**os.environ, "PYTHONPATH": str(ROOT), "REAL_RUN": self._mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_step(self, step: int) -> None:
        self.until(lambda: self.launcher.poll() is None and self._steps() >= step, 120.0)

    def until(self, condition: Callable[[], Any], deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {self.left()}"
            time.sleep(0.1)

    def left(self) -> list[str]:
        """What still runs, the launcher aside."""
        return [" ".join(process.cmdline()) for process in self._processes()]

    def kill(self) -> None:
        self.launcher.kill()
        for process in self._processes():
            process.kill()

    def _steps(self) -> int:
        path = self.run.metrics_file("learner")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("REAL_RUN") == self._mark
            except psutil.Error:
                continue
            if marked and process.pid != self.launcher.pid:
                yield process


@pytest.fixture
def real(tmp_path: Path, nano_dir: Path) -> Iterator[RealRun]:
    run = RealRun(tmp_path, nano_dir)
    yield run
    run.kill()
    run.launcher.communicate()


def test_ctrl_c_ends_engine_processes_too(real: RealRun) -> None:
    real.start("actors.in_process=false")
    real.wait_for_step(2)
    assert len(real.left()) >= 5  # roles, guard, and an engine of its own
    real.launcher.send_signal(signal.SIGINT)
    real.until(lambda: not real.left(), 10.0)
    out, _ = real.launcher.communicate(timeout=30)
    assert real.launcher.returncode == 130, out
    assert out.splitlines()[-1] == f"run: {real.run.root}"


@pytest.mark.parametrize(
    "victim", ["learner_000", pytest.param("actor_000", marks=pytest.mark.soak)]
)
def test_a_killed_role_ends_the_run(real: RealRun, victim: str) -> None:
    real.start()
    real.wait_for_step(2)
    os.kill(read_json(real.run.role_file(victim))["pid"], signal.SIGKILL)
    out, _ = real.launcher.communicate(timeout=30)
    assert real.launcher.returncode == 1, out
    assert f"error: {victim} failed: killed by SIGKILL" in out
    assert real.left() == []
