"""The buffer's process among real sockets: garbage, ends of every kind, and `kill -9`."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from async_r1.channels import Dealer
from async_r1.messages import read_ack, read_leases
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.schema import to_dict
from async_r1.segment_messages import write_segment
from async_r1.wire import Message
from buffer.journal import read_journal
from tests.buffer.fakes import make_config, make_segment

DEADLINE_S = 20.0


class Server:
    """`python -m buffer` on a port of its own."""

    def __init__(self, path: Path, **sections: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.run_dir = RunDir.create(path)
        config = make_config(
            **{
                "task": {"num_train": 20, "num_eval": 4, "levels": [1]},
                "buffer": {"journal": True},
                **sections,
            }
        )
        resolved = Resolved(
            config=config,
            run_dir=str(path),
            buffer_address=self.address,
            weights_address="",
            started_at=time.time(),
        )
        write_json(self.run_dir.resolved, to_dict(resolved))
        command = [sys.executable, "-m", "buffer", "--config", str(self.run_dir.resolved)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.dealers: list[Dealer] = []

    def dealer(self, name: str) -> Dealer:
        dealer = Dealer(self.address, name)
        self.dealers.append(dealer)
        return dealer

    def wait(self) -> tuple[int, str]:
        """Exit code and what it said."""
        _, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for dealer in self.dealers:
            dealer.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**sections: Any) -> Server:
        servers.append(Server(tmp_path / "run", **sections))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(dealer: Dealer, kind: str, **values: Any) -> Message:
    dealer.send(Message(kind, values))
    return expect(dealer)


def expect(dealer: Dealer) -> Message:
    message = dealer.receive(DEADLINE_S)
    assert message is not None, "no answer"
    return message


def test_garbage_is_answered_and_the_run_goes_on_to_its_end(start: Callable[..., Server]) -> None:
    server = start()
    stranger, actor, learner = (server.dealer(name) for name in ("x", "actor_000", "learner_000"))
    for frames in ([b""], [b"GET / HTTP/1.1"], [b"\x94\x01\xa1x\x80\x90", b"extra"], [b"\0"] * 99):
        stranger.socket.send_multipart(frames)
        assert expect(stranger).values["error"] == "WireError"
    with zmq.Context.instance().socket(zmq.DEALER) as raw:
        raw.connect(server.address)
        raw.send(b"\xff" * 10_000)  # and never reads the answer
    host, port = server.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as foreign:
        foreign.sendall(b"GET / HTTP/1.1\r\n\r\n")

    assert ask(actor, "hello", role="actor", index=0).kind == "welcome"
    assert ask(learner, "hello", role="learner", name="l", policy_version=0).kind == "welcome"
    leases = read_leases(ask(actor, "lease_request", free_slots=2, leases_received=0))
    assert len(leases) == 2
    assert ask(actor, "segment", rollout_id=0).values["error"] == "WireError"
    segment = make_segment([5], rollout_id=leases[0].rollout_id)
    actor.send(write_segment(segment))
    assert expect(actor).kind == "ack"

    learner.send(Message("finish", {"policy_version": 0}))
    assert expect(learner).kind == "finished"
    assert {expect(actor).kind, expect(actor).kind, expect(actor).kind} == {"revoked", "stop"}
    for dealer in (actor, learner):
        dealer.send(Message("bye"))
    code, stderr = server.wait()
    assert code == 0, stderr
    assert stderr.count("rejected from") >= 5
    assert read_json(server.run_dir.role_file("buffer"))["state"] == "done"


def test_a_failure_is_told_to_the_learner_and_ends_the_process(
    start: Callable[..., Server],
) -> None:
    server = start(buffer={"wait_timeout_s": 0.2})
    learner = server.dealer("learner_000")
    ask(learner, "hello", role="learner", name="l", policy_version=0)
    answer = ask(learner, "batch_request", policy_version=0)
    assert answer.values["error"] == "DeadlineError"
    learner.send(Message("bye"))
    code, stderr = server.wait()
    assert code == 1
    assert "no batch for version 0 in 0.2 s" in stderr and "Traceback" not in stderr
    assert read_json(server.run_dir.role_file("buffer"))["state"] == "failed"


def test_acknowledged_segments_survive_kill_9(start: Callable[..., Server]) -> None:
    server = start()
    actor = server.dealer("actor_000")
    ask(actor, "hello", role="actor", index=0)
    (lease,) = read_leases(ask(actor, "lease_request", free_slots=1, leases_received=0))
    for i in range(50):
        actor.send(write_segment(make_segment([i], prefix=range(i), prompt=(1,))))
    acknowledged = 0
    while acknowledged < 30:
        acknowledged += len(read_ack(expect(actor)))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(DEADLINE_S)
    journal = list(read_journal(server.run_dir.journal))
    assert [m.kind for m in journal[:1]] == ["group_opened"]
    tokens = [int(m.arrays["token_ids"][0]) for m in journal if m.kind == "segment"]
    assert len(tokens) >= acknowledged and tokens == list(range(len(tokens)))
    assert {m.values["rollout_id"] for m in journal if m.kind == "segment"} == {lease.rollout_id}


def test_sigterm_ends_it_as_asked(start: Callable[..., Server]) -> None:
    server = start()
    ask(server.dealer("actor_000"), "hello", role="actor", index=0)
    server.process.send_signal(signal.SIGTERM)
    code, stderr = server.wait()
    assert code == 0, stderr


def test_rows_go_to_their_files(start: Callable[..., Server]) -> None:
    server = start()
    learner = server.dealer("learner_000")
    ask(learner, "hello", role="learner", name="l", policy_version=0)
    values = {"batch_id": 1, "step": 1, "policy_version": 1, "trained_tokens": 3}
    assert ask(learner, "step_done", **values).kind == "ok"
    (line,) = server.run_dir.metrics_file("buffer").read_text().splitlines()
    row = json.loads(line)
    assert (row["step"], row["policy_version"]) == (1, 1) and row["wall_s"] >= 0
