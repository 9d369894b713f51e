"""The launcher with real processes as roles: first failures, deadlines, interrupts, leftovers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from async_r1 import cli
from async_r1.run_dir import RunDir, read_json

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("fake_launcher.py")
DEADLINE_S = 30.0


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s"
        time.sleep(0.02)


class FakeRun:
    """A launcher process over fake roles, and what it left."""

    def __init__(self, directory: Path) -> None:
        self.run = RunDir(directory / "run")
        self._directory = directory
        self._pids = directory / "pids"
        self._pids.mkdir()
        self._popen: subprocess.Popen[str] | None = None

    def start(self, *overrides: str, **roles: str) -> None:
        command = [sys.executable, str(LAUNCHER), f"run.dir={self._directory}", "run.name=run"]
        command += ["run.num_cores=2", "logging.console=plain", *overrides]
        self._popen = subprocess.Popen(
            command,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "FAKE_ROLES": json.dumps(roles),
                "FAKE_PIDS": str(self._pids),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def launcher(self) -> subprocess.Popen[str]:
        assert self._popen is not None
        return self._popen

    def ready(self, *names: str) -> None:
        """Wait until these roles run."""
        until(lambda: all(self.state(name) == "running" for name in names))

    def go(self) -> None:
        (self.run.root / "go").touch()

    def end(self) -> tuple[int, list[str], str]:
        """Exit code, lines of standard output, standard error."""
        out, err = self.launcher.communicate(timeout=DEADLINE_S)
        return self.launcher.returncode, out.splitlines(), err

    def state(self, name: str) -> str:
        path = self.run.role_file(name)
        return str(read_json(path)["state"]) if path.exists() else ""

    def seen(self) -> int:
        """How many processes there have been."""
        return len(list(self._pids.iterdir()))

    def alive(self) -> list[int]:
        return [pid for pid in map(int, os.listdir(self._pids)) if _alive(pid)]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRun]:
    run = FakeRun(tmp_path)
    yield run
    for pid in [*run.alive(), run.launcher.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run.launcher.communicate()


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_run_ends_when_the_learner_has(fake: FakeRun) -> None:
    fake.start("actors.count=2")
    fake.ready("buffer", "actor_000", "actor_001", "learner_000")
    assert read_json(fake.run.status)["state"] == "running"
    fake.go()
    code, out, err = fake.end()
    assert code == 0, err
    assert out[-1] == f"run: {fake.run.root}"
    assert read_json(fake.run.status)["state"] == "finished"
    assert fake.run.report.exists()
    assert fake.alive() == []


def test_buffer_and_actors_may_leave_before_the_last_checkpoint_is_written(fake: FakeRun) -> None:
    fake.start(learner_000="train_last")
    fake.ready("learner_000")
    fake.go()
    assert fake.end()[0] == 0


def test_a_role_that_lingers_is_stopped_and_the_run_has_finished(fake: FakeRun) -> None:
    fake.start("run.stop_timeout_s=1", actor_000="never_ends")
    fake.ready("learner_000", "actor_000")
    fake.go()
    code, _, err = fake.end()
    assert code == 0, err
    assert fake.alive() == []


def test_the_first_failure_is_shown_with_the_end_of_its_log(fake: FakeRun) -> None:
    fake.start("actors.count=2", actor_001="crash", learner_000="crash_too")
    fake.ready("buffer", "actor_001", "learner_000")
    fake.go()
    code, out, err = fake.end()
    assert code == 1
    log = fake.run.log("actor_001")
    last = err.splitlines()[-1]
    assert last == f"error: actor_001 failed: exit code 1; log: {log}"
    shown = err.split("---\n")[0].splitlines()[1:]
    assert shown == log.read_text().splitlines()[-20:]
    assert shown[-1] == "RuntimeError: the cause"
    assert "then learner_000 failed too: exit code 3" in err
    assert out[-1] == f"run: {fake.run.root}"
    status = read_json(fake.run.status)
    assert (status["state"], status["role"], status["log"]) == ("failed", "actor_001", str(log))
    assert status["followers"] == ["learner_000"]
    assert fake.alive() == []


def test_a_killed_buffer_is_started_again(fake: FakeRun) -> None:
    fake.start(buffer="killed_twice")
    lives = fake.run.root / "lives"
    until(lambda: lives.exists() and len(lives.read_text()) == 3)
    fake.ready("actor_000", "learner_000")
    fake.go()
    code, _, err = fake.end()
    assert code == 0, err
    assert err.count("buffer was killed by SIGKILL") == 2
    assert "1 restarts are left" in err
    assert fake.alive() == []


@pytest.mark.parametrize("overrides", [["run.buffer_restarts=1"], ["buffer.journal=false"]])
def test_restarts_end(fake: FakeRun, overrides: list[str]) -> None:
    fake.start(*overrides, buffer="killed_twice")
    code, _, err = fake.end()
    assert code == 1
    assert "error: buffer failed: killed by SIGKILL" in err
    expected = 2 if "run" in overrides[0] else 1
    assert len((fake.run.root / "lives").read_text()) == expected


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("killed", "killed by SIGSEGV"),
        ("leave", "it stopped before the run had ended"),
    ],
)
@pytest.mark.parametrize("role", ["buffer", "learner_000"])
def test_every_other_end_is_a_failure(
    fake: FakeRun, role: str, behaviour: str, reason: str
) -> None:
    fake.start(**{role: behaviour})
    fake.ready("buffer", "actor_000", "learner_000")
    fake.go()
    code, _, err = fake.end()
    assert code == 1
    assert f"error: {role} failed: {reason}; log: " in err
    assert fake.alive() == []


def test_a_role_that_says_why_is_quoted_and_a_bad_value_is_bad_usage(fake: FakeRun) -> None:
    fake.start(actor_000="refuse")
    fake.ready("buffer", "actor_000", "learner_000")
    fake.go()
    code, _, err = fake.end()
    assert code == 2
    assert "error: actor_000 failed: model.max_length must be > 70, got 16; log: " in err
    assert "max_length" in read_json(fake.run.status)["error"]


def test_a_taken_port_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        code = cli.main(["launch", f"run.buffer_address={address}", f"run.dir={tmp_path}"])
    assert code == 2
    rule = f"error: run.buffer_address must be a free port, got {address}"
    assert capsys.readouterr().err.startswith(rule)
    assert list(tmp_path.iterdir()) == []


def test_a_role_that_is_not_ready_in_time_is_named(fake: FakeRun) -> None:
    fake.start("run.start_timeout_s=2", actor_000="never_ready")
    code, out, err = fake.end()
    assert code == 1
    assert "actor_000 was not ready after 2 s (starting: loading a very large model)" in err
    assert any("actor_000: starting: loading a very large model" in line for line in out)
    assert fake.alive() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_no_process(fake: FakeRun, number: signal.Signals) -> None:
    fake.start("actors.count=2")
    fake.ready("buffer", "actor_000", "actor_001", "learner_000")
    fake.launcher.send_signal(number)
    code, out, err = fake.end()
    assert code == 130, err
    assert out[-1] == f"run: {fake.run.root}"
    assert read_json(fake.run.status)["state"] == "interrupted"
    assert fake.alive() == []


def test_an_interrupt_ends_within_ten_seconds_what_ignores_it(fake: FakeRun) -> None:
    fake.start(actor_000="stubborn", learner_000="stubborn")  # with the default stop_timeout_s
    fake.ready("buffer", "actor_000", "learner_000")
    until(lambda: fake.seen() == 7)  # three roles, and two children of each stubborn one
    fake.launcher.send_signal(signal.SIGINT)
    until(lambda: not fake.alive(), 10.0)
    code, _, err = fake.end()
    assert code == 130
    assert "were killed: learner_000, actor_000" in err
    assert fake.alive() == []


def test_a_second_interrupt_does_not_wait(fake: FakeRun) -> None:
    fake.start("run.stop_timeout_s=60", actor_000="stubborn")
    fake.ready("buffer", "actor_000", "learner_000")
    until(lambda: fake.seen() == 5)
    fake.launcher.send_signal(signal.SIGINT)
    until(lambda: len(fake.alive()) == 3)  # the others have stopped, so the first has arrived
    fake.launcher.send_signal(signal.SIGINT)
    until(lambda: not fake.alive(), 10.0)
    assert fake.end()[0] == 130


def test_a_killed_launcher_leaves_no_process(fake: FakeRun) -> None:
    fake.start("run.stop_timeout_s=1", "actors.count=2", actor_000="stubborn")
    fake.ready("buffer", "actor_000", "actor_001", "learner_000")
    until(lambda: fake.seen() == 6)
    fake.launcher.kill()
    until(lambda: not fake.alive(), 10.0)


def test_a_launcher_killed_while_it_starts_roles_leaves_no_process(fake: FakeRun) -> None:
    fake.start("run.stop_timeout_s=1", "actors.count=8")
    until(lambda: fake.seen() >= 1)
    fake.launcher.kill()
    fake.launcher.wait()
    until(lambda: not fake.alive(), 10.0)
    time.sleep(1.0)  # one that was being started would show itself by now
    assert fake.alive() == []


def test_a_crashed_role_leaves_no_child(fake: FakeRun) -> None:
    fake.start(actor_000="stubborn")
    fake.ready("actor_000", "buffer", "learner_000")
    until(lambda: fake.seen() == 5)
    os.kill(read_json(fake.run.role_file("actor_000"))["pid"], signal.SIGKILL)
    code, _, err = fake.end()
    assert code == 1
    assert "actor_000 failed: killed by SIGKILL, as the kernel does when memory runs out" in err
    assert fake.alive() == []


def test_a_directory_that_holds_a_run_is_refused(fake: FakeRun) -> None:
    fake.start()
    fake.ready("learner_000")
    fake.go()
    assert fake.end()[0] == 0
    directory = fake.run.root.parent
    overrides = [f"run.dir={directory}", "run.name=run"]
    again = subprocess.run(
        [sys.executable, "-m", "async_r1", "launch", *overrides],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 2
    assert again.stderr.startswith(f"error: {fake.run.root} already holds a run; choose another")
    assert len(again.stderr.splitlines()) == 1
