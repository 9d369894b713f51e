"""Watches the processes of a run and says how it ended.

The learner's ranks decide: when all have ended well, the run is finished, and buffer and actors
leave by themselves around that time. A role ends well with exit code 0 and the state `done`.
Any other end is a failure, and the first one is the one reported; but a role that can go on from
what it wrote to disk, the buffer, is started again if a signal ended it, a few times.
"""

import enum
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from async_r1 import guard
from async_r1.config import RunConfig
from async_r1.errors import AsyncR1Error, DeadlineError, PeerError, RunDirError
from async_r1.process import RoleProcess
from async_r1.role import BAD_CONFIG
from async_r1.run_dir import RunDir, read_json

log = logging.getLogger(__name__)

TICK_S = 0.2
_STOP_TICK_S = 0.05
_SETTLE_S = 1.0  # roles that fail within this of the first are named with it
_NOT_READY = ("not started", "starting")


class State(enum.StrEnum):
    """Of a run, as status.json has it."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


_EXIT_CODES = {State.FINISHED: 0, State.FAILED: 1, State.INTERRUPTED: 130}


@dataclass(frozen=True)
class Failure:
    """The role that failed first, why, and those that failed right after it."""

    process: RoleProcess
    error: AsyncR1Error
    followers: tuple[RoleProcess, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: State
    failure: Failure | None = None
    killed: tuple[str, ...] = ()  # roles that did not stop when asked to

    @property
    def exit_code(self) -> int:
        """Of the command: a role that met a bad value only in its own process is bad usage, too."""
        if self.failure is not None and self.failure.process.returncode == BAD_CONFIG:
            return BAD_CONFIG
        return _EXIT_CODES[self.state]


Restart = Callable[[], RoleProcess]


class Supervisor:
    """The processes of one run; leaving the context ends all of them."""

    def __init__(self, run: RunConfig, run_dir: RunDir, token: str) -> None:
        self._run = run
        self._run_dir = run_dir
        self._token = token
        self._ready: set[str] = set()
        self._learners: list[RoleProcess] = []
        self._restarts: dict[str, list[Restart]] = {}  # those left, by role
        self.processes: list[RoleProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        guard.reap(self._token)

    def add(
        self,
        process: RoleProcess,
        *,
        is_learner: bool,
        restart: Restart | None = None,
        times: int = 0,
    ) -> None:
        """Watch this one, too; up to `times` a signal that ends it is answered by `restart`."""
        self.processes.append(process)
        self._restarts[process.name] = [restart] * times if restart is not None else []
        if is_learner:
            self._learners.append(process)

    def watch(self, tick: Callable[[], None], interrupts: Callable[[], int]) -> Outcome:
        """Look at all processes until the run ends, then stop what is left.

        Args:
            tick: called several times a second.
            interrupts: how often the user has asked to stop; asked again, nothing is waited for.

        Raises:
            DeadlineError: a process outlived SIGKILL.
        """
        while not interrupts():
            tick()
            self._restart_killed()
            failure = self._first_failure() or self._overdue()
            if failure is not None:
                return Outcome(State.FAILED, failure, self._stop(tick, interrupts))
            if self._is_over():
                return Outcome(State.FINISHED, killed=self._stop(tick, interrupts))
            time.sleep(TICK_S)
        return Outcome(State.INTERRUPTED, killed=self._stop(tick, interrupts))

    def _restart_killed(self) -> None:
        """Start what a signal ended again, while there is something to go on with."""
        if not any(process.running for process in self._learners):
            return
        for i, process in enumerate(self.processes):
            left, code = self._restarts[process.name], process.returncode
            if code is not None and code < 0 and left:
                self._ready.discard(process.name)
                self.processes[i] = left.pop()()
                log.warning(
                    "%s was %s and is started again, as process %d; %d restarts are left",
                    process.name,
                    process.exit_text,
                    self.processes[i].pid,
                    len(left),
                )

    def _is_over(self) -> bool:
        """All ended well, or the learner did and the others had time to."""
        if any(process.running for process in self._learners):
            return False
        last = max(process.ended_at or 0.0 for process in self._learners)
        late = time.monotonic() - last >= self._run.stop_timeout_s
        return late or not any(process.running for process in self.processes)

    def _first_failure(self) -> Failure | None:
        """What ends mean; whether an actor is started again instead is to be decided here."""
        if not self._failed():
            return None
        time.sleep(_SETTLE_S)
        first, *followers = self._failed()
        state, detail = self._state(first)
        reason = first.exit_text if first.returncode else "it stopped before the run had ended"
        reason = detail if state == "failed" else reason
        return Failure(first, PeerError(f"{first.name} failed: {reason}"), tuple(followers))

    def _failed(self) -> list[RoleProcess]:
        """In the order in which they ended."""
        failed = [
            process
            for process in self.processes
            if not process.running and (process.returncode or self._state(process)[0] != "done")
        ]
        return sorted(failed, key=lambda process: process.ended_at or 0.0)

    def _overdue(self) -> Failure | None:
        """A role that is not ready in time, or a rank that goes on when others have ended.

        Storing the last checkpoint may take as long as loading the model did.
        """
        now, limit = time.monotonic(), self._run.start_timeout_s
        ended = [p.ended_at for p in self.processes if p.ended_at is not None]
        for process in self.processes:
            if process.name not in self._ready:
                state, detail = self._state(process)
                if state not in _NOT_READY:
                    self._ready.add(process.name)
                elif now - process.started_at >= limit:
                    doing = f"{state}: {detail}" if detail else state
                    text = f"{process.name} was not ready after {limit:g} s ({doing})"
                    return Failure(process, DeadlineError(f"{text}; raise run.start_timeout_s?"))
            if process.running and process in self._learners and ended:
                if now - min(ended) >= limit:
                    text = f"{process.name} goes on {limit:g} s after others have ended"
                    return Failure(process, DeadlineError(text))
        return None

    def _stop(self, tick: Callable[[], None], interrupts: Callable[[], int]) -> tuple[str, ...]:
        """SIGTERM to the roles, after `run.stop_timeout_s` SIGKILL to whatever is left."""
        patience = max(1, interrupts())
        deadline = time.monotonic() + self._run.stop_timeout_s
        for process in self.processes:
            process.terminate()
        while any(process.running for process in self.processes):
            if time.monotonic() >= deadline or interrupts() > patience:
                break
            tick()
            time.sleep(_STOP_TICK_S)
        killed = tuple(process.name for process in self.processes if process.running)
        if left := guard.reap(self._token):
            raise DeadlineError(f"processes {left} are still there after SIGKILL")
        return killed

    def _state(self, process: RoleProcess) -> tuple[str, str]:
        try:
            value = read_json(self._run_dir.role_file(process.name))
        except RunDirError:
            return "not started", ""
        return str(value.get("state")), str(value.get("detail"))
