"""Role processes: each in a process group of its own, with its log, and a warden over all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from async_r1.warden import group_alive, signal_group

TAIL_LINES = 20


class RoleProcess:
    """One started role."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def group(self) -> int:
        """Process group, which the role leads."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def exit_text(self) -> str:
        """How it ended, for people."""
        code = self.exit_code()
        assert code is not None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def tail(self) -> list[str]:
        """The last lines of its log."""
        return self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]


class RoleProcesses:
    """All roles of a run; `stop` leaves no process of theirs."""

    def __init__(self) -> None:
        self.roles: list[RoleProcess] = []
        self._warden = subprocess.Popen(
            [sys.executable, "-m", "async_r1.warden"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> RoleProcess:
        """Start a role and put its group under the warden."""
        role = RoleProcess(name, command, environment, log)
        self.roles.append(role)
        assert self._warden.stdin is not None
        self._warden.stdin.write(f"{role.group}\n")
        self._warden.stdin.flush()
        return role

    def running(self) -> list[RoleProcess]:
        return [role for role in self.roles if role.exit_code() is None]

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, then after the timeout SIGKILL, to every role and what it started.

        A second interrupt while waiting kills at once.
        """
        try:
            for role in self.running():
                signal_group(role.group, signal.SIGTERM)
            deadline = time.monotonic() + timeout_s
            while self._alive() and time.monotonic() < deadline:
                time.sleep(0.05)
        except KeyboardInterrupt:
            pass
        finally:
            for role in self.roles:
                signal_group(role.group, signal.SIGKILL)
            for role in self.roles:
                role._process.wait(5)

    def close(self) -> None:
        """Dismiss the warden; call after all roles ended."""
        assert self._warden.stdin is not None
        self._warden.stdin.write("done\n")
        self._warden.stdin.close()
        self._warden.wait(5)

    def _alive(self) -> bool:
        self.running()  # reaps those that ended, so that their groups can vanish
        return any(group_alive(role.group) for role in self.roles)
