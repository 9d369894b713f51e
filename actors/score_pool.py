"""Scoring processes that are killed when a score takes too long, and replaced.

No thread and no lock: the pool moves on only in `poll`, and its sockets tell when to call it. Each
process has a socket of its own, so what it did not answer is known exactly, however it ended.
"""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from actors.score_worker import READY
from async_r1.config_task import RewardConfig, TaskConfig
from async_r1.rewards import Outcome
from async_r1.tasks.protocol import Completion, Prompt

START_S = 120.0  # deadline of imports and of loading the task
_AHEAD_BYTES = 32 << 10  # sent before it is asked for: fits a socket's buffer, so no send blocks
_AHEAD_JOBS = 16
_MESSAGE_S = 10  # deadline of one message's way: both ends are quick once they have begun


@dataclass(frozen=True, slots=True)
class _Job:
    key: Hashable
    data: bytes


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float  # of its first job, or of its start
    ready: bool = False
    jobs: deque[_Job] = field(default_factory=deque)  # sent and not answered, in order

    def has_room_for(self, job: _Job) -> bool:
        waiting = sum(len(sent.data) for sent in self.jobs)
        small = len(self.jobs) < _AHEAD_JOBS and waiting + len(job.data) <= _AHEAD_BYTES
        return self.ready and (not self.jobs or small)

    def end(self) -> int:
        """Kill it with all that it started; returns its exit code."""
        self.connection.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.process.wait(timeout=_MESSAGE_S)


class ScorePool:
    """Scores completions in up to `reward.workers` processes, started when there is work."""

    def __init__(self, reward: RewardConfig, task: TaskConfig) -> None:
        self._configs = reward, task
        self._timeout_s = reward.timeout_s
        self._max_workers = reward.workers
        self._workers: list[_Worker] = []
        self._queue: deque[_Job] = deque()
        self._done: list[tuple[Hashable, Outcome]] = []
        self.num_replaced = 0  # processes killed or found dead

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    @property
    def fds(self) -> list[int]:
        """Readable when `poll` has something to do."""
        return [worker.connection.fileno() for worker in self._workers]

    def due_s(self, now: float) -> float:
        """Seconds until a deadline passes, and `poll` has something to do."""
        deadlines = [worker.deadline for worker in self._workers if _works(worker)]
        return max(0.0, min(deadlines, default=float("inf")) - now)

    def submit(self, key: Hashable, prompt: Prompt, completion: Completion) -> None:
        """Have a completion scored; `poll` gives the outcome under the key."""
        self._queue.append(_Job(key, pickle.dumps((prompt, completion))))
        self._hand_out(time.monotonic())

    def poll(self) -> list[tuple[Hashable, Outcome]]:
        """What was scored, or will not be, since the last call; waits for no score."""
        now = time.monotonic()
        for worker in list(self._workers):
            try:
                self._read(worker, now)
            except BlockingIOError:  # SO_RCVTIMEO
                self._replace(worker)
                self._blame(worker, "ProcessDied: the scoring process stopped in mid-answer")
                continue
            except (EOFError, OSError):
                self._lost(worker)
                continue
            if _works(worker) and now > worker.deadline:
                self._too_slow(worker)
        self._hand_out(now)
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End the processes; what they have not scored is forgotten."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._queue.clear()

    def _read(self, worker: _Worker, now: float) -> None:
        while worker.connection.poll(0):
            message = worker.connection.recv()
            if message == READY:
                worker.ready = True
            else:
                self._done.append((worker.jobs.popleft().key, message))
                worker.deadline = now + self._timeout_s  # of the next one that it has

    def _lost(self, worker: _Worker) -> None:
        code = self._replace(worker)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        when = "" if worker.ready else " while it started"
        self._blame(worker, f"ProcessDied: the scoring process ended{when}: {how}")

    def _too_slow(self, worker: _Worker) -> None:
        self._replace(worker)
        if worker.ready:
            self._blame(worker, f"took more than {self._timeout_s:g} s")
        else:
            self._blame(worker, f"ProcessDied: the scoring process did not start in {START_S:g} s")

    def _blame(self, worker: _Worker, error: str) -> None:
        """The job that the process was at, or the next if it could not even start, is to blame."""
        jobs = worker.jobs if worker.ready else self._queue
        if jobs:
            self._done.append((jobs.popleft().key, Outcome(error=error)))
        self._queue.extendleft(reversed(worker.jobs))

    def _replace(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        self.num_replaced += 1
        return worker.end()

    def _hand_out(self, now: float) -> None:
        while self._queue:
            able = [worker for worker in self._workers if worker.has_room_for(self._queue[0])]
            if not able:
                break
            worker = min(able, key=lambda worker: len(worker.jobs))
            if not worker.jobs:
                worker.deadline = now + self._timeout_s
            worker.jobs.append(self._queue.popleft())
            try:
                worker.connection.send_bytes(worker.jobs[-1].data)
            except OSError:  # it died: `poll` finds out, and blames it for its first job
                break
        idle = sum(not worker.jobs for worker in self._workers)
        if len(self._queue) > idle and len(self._workers) < self._max_workers:
            self._workers.append(self._start(now))

    def _start(self, now: float) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _MESSAGE_S, 0))
            fd = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-m", "actors.score_worker", str(os.getpid()), str(fd)],
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the launcher's, and what it starts dies with it
            )
        connection = Connection(ours.detach())
        try:
            connection.send(self._configs)
        except OSError:  # it died: `poll` finds out
            pass
        return _Worker(process, connection, now + START_S)


def _works(worker: _Worker) -> bool:
    return bool(worker.jobs) or not worker.ready
