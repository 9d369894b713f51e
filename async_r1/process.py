"""One role as an operating-system process: its start, its log, how it ended."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from async_r1 import guard

log = logging.getLogger(__name__)

TAIL_LINES = 20
_TAIL_BYTES = 64 << 10


class RoleProcess:
    """A started role, in a session of its own: a terminal's Ctrl-C does not reach it."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log_file: Path, token: str
    ) -> None:
        """Start it; standard output and error go to `log_file`."""
        self.name = name
        self.log = log_file
        self.started_at = time.monotonic()
        self.ended_at: float | None = None
        with log_file.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                env={**env, guard.VARIABLE: f"{token}/{name}"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # A thread, so that `ended_at` orders failures that lie closer than two looks at them.
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return None if self.ended_at is None else self._popen.returncode

    @property
    def running(self) -> bool:
        return self.ended_at is None

    @property
    def exit_text(self) -> str:
        """`exit code 1`, `killed by SIGSEGV`."""
        code = self.returncode
        assert code is not None
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"

    def terminate(self) -> None:
        """Ask it to stop; its children are for it to stop."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)

    def tail(self, num_lines: int = TAIL_LINES) -> list[str]:
        """The last lines of its log."""
        with self.log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return text.splitlines()[-num_lines:]

    def _wait(self) -> None:
        self._popen.wait()
        self.ended_at = time.monotonic()
        log.info("%s ended: %s", self.name, self.exit_text)


class Guard:
    """The process that ends the run's processes when this one could not."""

    def __init__(self, token: str, grace_s: float, env: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "async_r1.guard", token, str(grace_s)],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self, timeout_s: float) -> None:
        """All is ended: let it look once more and go."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(timeout_s)
