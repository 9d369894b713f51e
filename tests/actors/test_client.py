"""The actor's end of the buffer protocol against a real ROUTER that the test plays."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from actors.client import BufferClient
from async_r1.channels import Router
from async_r1.errors import DeadlineError, PeerError
from async_r1.messages import write_leases
from async_r1.ports import free_port
from async_r1.types import (
    FinishReason,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
    VersionSpan,
)
from async_r1.wire import Message


class Server:
    """A scripted buffer."""

    def __init__(self) -> None:
        self.address = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"
        self.router = Router(self.address)
        self.peer = b""

    def expect(self, kind: str) -> Message:
        received = self.router.receive(5)
        assert received is not None, f"no {kind} came"
        self.peer, message = received
        assert isinstance(message, Message) and message.kind == kind, message
        return message

    def nothing(self) -> None:
        assert self.router.receive(0.1) is None

    def send(self, kind: str, **values: object) -> None:
        assert self.router.send(self.peer, Message(kind, values))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.router.close()


@pytest.fixture
def client(server: Server) -> Iterator[BufferClient]:
    yield from joined(server, credit_bytes=1 << 20)


def joined(server: Server, credit_bytes: int) -> Iterator[BufferClient]:
    client = BufferClient(server.address, "actor_000", 0, timeout_s=5.0)
    client.dealer.send(Message("heartbeat"))  # tells the server who we are
    server.expect("heartbeat")
    server.send("welcome", policy_version=3, credit_bytes=credit_bytes)
    assert client.join(now=0.0) == 3
    server.expect("hello")
    yield client
    client.dealer.close()


def segment(offset: int, num_tokens: int = 100, rollout_id: int = 5) -> Segment:
    return Segment(
        rollout_id=rollout_id,
        lease_epoch=1,
        token_offset=offset,
        prefix_hash=0,
        status=SegmentStatus.STREAMING,
        finish_reason=None,
        spans=(VersionSpan(0, num_tokens),),
        prefill_version=0,
        swaps=(),
        token_ids=np.arange(num_tokens, dtype=np.int32),
        behavior_logprobs=-np.ones(num_tokens, dtype=np.float32),
    )


def ack(server: Server, offset: int, rollout_id: int = 5) -> None:
    server.send("ack", segments=[[rollout_id, 1, offset]])


def drain_until(client: BufferClient, blocked: bool) -> None:
    for _ in range(50):
        client.receive(now=1.0, timeout_s=0.1)
        if client.blocked is blocked:
            return
    raise AssertionError(f"client never became blocked={blocked}")


def test_credits_bound_what_is_unacknowledged_and_order_is_kept(server: Server) -> None:
    (client,) = [next(clients := joined(server, credit_bytes=1700))]
    for offset in (0, 100, 200):  # 800 bytes each
        client.send_segment(segment(offset))
    score = Score(rollout_id=5, lease_epoch=1, rewards={"task": 1.0, "total": 1.0}, text="x")
    client.send_score(score)
    assert [server.expect("segment").values["token_offset"] for _ in range(2)] == [0, 100]
    server.nothing()
    assert client.blocked
    ack(server, 0)
    drain_until(client, blocked=False)
    assert server.expect("segment").values["token_offset"] == 200
    server.expect("score")  # never before the rollout's last segment
    clients.close()


def test_unacknowledged_segments_are_sent_again_to_a_buffer_that_asks_to_rejoin(
    server: Server, client: BufferClient
) -> None:
    for offset in (0, 100, 200):
        client.send_segment(segment(offset))
        server.expect("segment")
    ack(server, 100)
    server.send("rejoin")
    while not server.router.socket.poll(0):
        client.receive(now=1.0, timeout_s=0.1)
    server.expect("hello")
    assert [server.expect("segment").values["token_offset"] for _ in range(2)] == [0, 200]
    server.nothing()


def a_lease(rollout_id: int) -> Lease:
    return Lease(
        rollout_id=rollout_id,
        lease_epoch=1,
        kind=LeaseKind.GENERATE,
        group_id=0,
        member=rollout_id,
        prompt_id="p",
        level=1,
        seed=0,
        token_budget=0,
        max_new_tokens=10,
        temperature=1.0,
        finish_reason=None,
        prefix_ids=np.zeros(0, np.int32),
        prefix_hash=0,
    )


def test_a_rejoining_actor_names_its_leases_and_repeats_its_scores(
    server: Server, client: BufferClient
) -> None:
    """Of six rollouts one is scored, one suspended, one revoked, all acknowledged; another's score
    is not; the next one's last segment is not; the last one is being sampled."""
    server.router.send(server.peer, write_leases([a_lease(i) for i in range(6)]))
    client.receive(now=1.0, timeout_s=5.0)
    ends = {"finished": FinishReason.STOP, "suspended": None}
    for rollout_id, status in enumerate(["finished", "suspended", "", "finished", "finished"]):
        if status:
            end = {"status": SegmentStatus(status), "finish_reason": ends[status]}
            client.send_segment(replace(segment(0, rollout_id=rollout_id), **end))
        if status == "finished":
            rewards = {"task": 1.0, "total": 1.0}
            client.send_score(Score(rollout_id=rollout_id, lease_epoch=1, rewards=rewards, text=""))
    for kind in ("segment", "score", "segment", "segment", "score", "segment", "score"):
        server.expect(kind)
    for rollout_id in (0, 1, 3):
        ack(server, 0, rollout_id)
    server.send("scored", rollout_id=0, lease_epoch=1)
    server.send("revoked", rollout_id=2, lease_epoch=1)
    server.send("rejoin")
    server.send("rejoin")  # to something else that it had sent before
    while not server.router.socket.poll(0):
        client.receive(now=1.0, timeout_s=0.1)
    assert server.expect("hello").values["leases"] == [[3, 1], [4, 1], [5, 1]]
    assert server.expect("segment").values["rollout_id"] == 4
    assert [server.expect("score").values["rollout_id"] for _ in range(2)] == [3, 4]
    client.receive(now=1.0, timeout_s=0.1)
    server.nothing()
    server.send("welcome", policy_version=3, credit_bytes=1 << 20)
    server.send("rejoin")  # the buffer was started once more
    while not server.router.socket.poll(0):
        client.receive(now=1.0, timeout_s=0.1)
    server.expect("hello")


def test_revocation_releases_credit_and_reaches_the_loop(
    server: Server, client: BufferClient
) -> None:
    client.send_segment(segment(0))
    client.send_segment(segment(0, rollout_id=6))
    server.expect("segment")
    server.expect("segment")
    server.send("revoked", rollout_id=5, lease_epoch=1)
    inbox = client.receive(now=1.0, timeout_s=5.0)
    assert inbox.revoked == [(5, 1)]
    assert [key[0] for key in client._unacknowledged] == [6]


def test_leases_arrive_whole_and_are_counted_in_the_next_request(
    server: Server, client: BufferClient
) -> None:
    leases = [
        Lease(
            rollout_id=i,
            lease_epoch=1,
            kind=LeaseKind.SCORE if i else LeaseKind.GENERATE,
            group_id=0,
            member=i,
            prompt_id="p",
            level=1,
            seed=i,
            token_budget=0,
            max_new_tokens=10,
            temperature=1.0,
            finish_reason=FinishReason.STOP if i else None,
            prefix_ids=np.arange(i * 3, dtype=np.int32),
        )
        for i in range(3)
    ]
    client.request_leases(4)
    assert server.expect("lease_request").values == {"free_slots": 4, "leases_received": 0}
    client.request_leases(4)  # nothing changed: nothing is said
    server.nothing()
    server.router.send(server.peer, write_leases(leases))
    received = client.receive(now=1.0, timeout_s=5.0).leases
    assert [lease.rollout_id for lease in received] == [0, 1, 2]
    assert [lease.prefix_ids.tolist() for lease in received] == [[], [0, 1, 2], [*range(6)]]
    client.request_leases(1)
    assert server.expect("lease_request").values == {"free_slots": 1, "leases_received": 3}


def test_a_silent_buffer_is_a_deadline_error_with_its_address(
    server: Server, client: BufferClient
) -> None:
    client.receive(now=100.0)  # silence without anything owed is no error
    client.send_segment(segment(0))
    client.receive(now=101.0)
    with pytest.raises(DeadlineError, match=server.address):
        client.receive(now=107.0)


def test_an_absent_buffer_is_a_deadline_error() -> None:
    client = BufferClient(f"tcp://127.0.0.1:{free_port('127.0.0.1')}", "actor_000", 0, 0.3)
    with pytest.raises(DeadlineError, match="did not welcome"):
        client.join(0.0)
    client.dealer.close()


def test_a_refusal_is_an_error_with_the_buffers_reason(
    server: Server, client: BufferClient
) -> None:
    server.send("error", error="ProtocolError", text="rollout 5 has 0 tokens")
    with pytest.raises(PeerError, match="rollout 5 has 0 tokens"):
        client.receive(now=1.0, timeout_s=5.0)
