"""The processes that `buffer_ingest.py` measures: a buffer as launched, and the bare sides."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import zmq
from buffer_ingest_traffic import PER_ROLLOUT, VOCAB_SIZE, Cell, receive

SIDES = Path(__file__).with_name("buffer_ingest_sides.py")


@contextlib.contextmanager
def buffer_process(
    cell: Cell, path: Path, cores: list[int]
) -> Iterator[tuple[list["zmq.Socket[bytes]"], int]]:
    """`python -m buffer` as the launcher starts it, and the sockets of actors that it welcomed."""
    from async_r1.plan import BUFFER_MALLOC
    from async_r1.wire import Message
    from async_r1.wire import encode as to_frames

    resolved = prepare(cell, path)
    log = path / "buffer.log"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "buffer", "--config", str(resolved)],
        env={
            **os.environ,
            **common.ONE_THREAD,
            "GLIBC_TUNABLES": BUFFER_MALLOC,
            "PYTHONPATH": str(common.ROOT),
        },
        stderr=log.open("w"),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    address = json.loads(resolved.read_text())["buffer_address"]
    sockets = []
    try:
        for index in range(cell.connections):
            sockets.append(dealer(address, f"actor_{index:03d}"))
            hello = Message("hello", {"role": "actor", "index": index})
            sockets[-1].send_multipart(to_frames(hello))
        for socket in sockets:
            receive(socket, "welcome")
        yield sockets, process.pid
    except AssertionError as error:
        raise SystemExit(f"{error}\n{log.read_text()[-3000:]}") from None
    finally:
        for socket in sockets:
            socket.close()
        process.terminate()
        process.wait(20)
        shutil.rmtree(path)


def prepare(cell: Cell, path: Path) -> Path:
    """The resolved configuration that a launcher would have written; all leases admitted."""
    from async_r1.compose import compose
    from async_r1.ports import free_ports
    from async_r1.role import Resolved
    from async_r1.run_dir import RunDir, write_json
    from async_r1.schema import to_dict

    run_dir = RunDir.create(path)
    model = path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"vocab_size": VOCAB_SIZE}))
    max_new = cell.tokens * PER_ROLLOUT[cell.tokens]
    config = compose(
        [
            f"model.path={model}",
            f"model.max_length={2 * max_new}",
            f"task.max_new_tokens={max_new}",
            f"actors.count={cell.connections}",
            "buffer.group_size=8",
            "buffer.max_size=100000",
            "learner.groups_per_update=100000",
            "staleness.eta=0",
            "eval.every=0",
        ]
    )
    buffer_port, weights_port = free_ports(config.run.host, 2)
    resolved = Resolved(
        config=config,
        run_dir=str(run_dir.root),
        buffer_address=f"tcp://{config.run.host}:{buffer_port}",
        weights_address=f"tcp://{config.run.host}:{weights_port}",
        started_at=time.time(),
    )
    write_json(run_dir.resolved, to_dict(resolved))
    return run_dir.resolved


class Bare:
    """The process of the bare sides."""

    def __init__(self, directory: Path, cores: list[int]) -> None:
        from async_r1.ports import free_port

        self._address = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
        self._connected = 0
        self.process = subprocess.Popen(
            [sys.executable, str(SIDES), self._address, str(directory / "bare")],
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def connect(self) -> "zmq.Socket[bytes]":
        self._connected += 1
        return dealer(self._address, f"bare_{self._connected}")

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))


@contextlib.contextmanager
def bare_process(directory: Path, cores: list[int]) -> Iterator[Bare]:
    bare = Bare(directory, cores)
    try:
        yield bare
    finally:
        bare.process.kill()
        bare.process.wait()


def dealer(address: str, name: str) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, f"{name}/{os.getpid()}".encode())
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    return socket


def cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
