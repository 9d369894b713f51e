"""Finding and ending the processes of a token, against processes started here."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from async_r1 import guard

OBEY = "import time; print('up', flush=True); time.sleep(60)"
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEY


class Family:
    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, value: str) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, guard.VARIABLE: value},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        return process.pid


@pytest.fixture
def family() -> Iterator[Family]:
    family = Family()
    yield family
    for process in family.processes:
        process.kill()
        process.communicate()


def test_members_are_those_of_the_token_or_of_one_role(family: Family) -> None:
    first = family.start(OBEY, f"{family.token}/actor_000")
    second = family.start(OBEY, f"{family.token}/actor_001")
    family.start(OBEY, f"{family.token}x/actor_000")  # another token that begins alike
    family.start(OBEY, f"{uuid.uuid4().hex}/actor_000")
    assert set(guard.members(family.token)) == {first, second}
    assert guard.members(f"{family.token}/actor_001") == [second]
    assert guard.members(f"{family.token}/actor_00") == []


def test_reaping_asks_first_and_then_kills(family: Family) -> None:
    family.start(OBEY, f"{family.token}/a")
    family.start(IGNORE, f"{family.token}/b")
    started = time.monotonic()
    assert guard.reap(family.token, grace_s=0.5) == []
    assert time.monotonic() - started >= 0.5
    codes = [process.wait(5) for process in family.processes]
    assert codes == [-signal.SIGTERM, -signal.SIGKILL]


def test_reaping_does_not_wait_for_those_that_obey(family: Family) -> None:
    family.start(OBEY, f"{family.token}/a")
    started = time.monotonic()
    assert guard.reap(family.token, grace_s=30.0) == []
    assert time.monotonic() - started < 10.0
    assert guard.members(family.token) == []


def test_without_processes_there_is_nothing_to_do() -> None:
    started = time.monotonic()
    assert guard.reap(uuid.uuid4().hex, grace_s=30.0) == []
    assert time.monotonic() - started < 5.0
