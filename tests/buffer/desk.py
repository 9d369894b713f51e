"""A desk: a `BufferCore` whose peers a test plays by hand, message by message."""

from collections.abc import Callable
from typing import Any

from async_r1.config import Config
from async_r1.errors import WireError
from async_r1.messages import read_batch, read_leases, write_score
from async_r1.segment_messages import write_segment
from async_r1.types import Batch, FinishReason, Lease, Score
from async_r1.wire import Message
from buffer.core import BufferCore
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout
from tests.buffer.fakes import FakeTask, make_config, make_segment, prompt_tokens

A, B, LEARNER = b"actor_000/1", b"actor_001/2", b"learner_000/3"


class ListJournal:
    """A journal in memory."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def append(self, message: Message, **_: Any) -> None:
        self.messages.append(message)

    def metrics(self) -> dict[str, float]:
        return {}

    def flush(self) -> int:
        return len(self.messages)

    def close(self) -> None:
        pass


class Desk:
    """A core and what it sent; plays its peers by hand."""

    def __init__(self, config: Config, num_eval: int = 3) -> None:
        self.journal = ListJournal()
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.recorded: list[tuple[int, list[ClosedGroup], list[Rollout]]] = []
        self.core = BufferCore(
            config,
            FakeTask(num_eval=num_eval),
            self.journal,
            write_row=lambda stream, row: self.rows.append((stream, row)),
            record=lambda *args: self.recorded.append(args),
        )
        self.now = 0.0

    def send(self, peer: bytes, kind: str, **values: Any) -> list[tuple[bytes, Message]]:
        return self.core.handle(peer, Message(kind, values), self.now)

    def handle(self, peer: bytes, message: Message | WireError) -> list[tuple[bytes, Message]]:
        return self.core.handle(peer, message, self.now)

    def tick(self, seconds: float) -> list[tuple[bytes, Message]]:
        self.now += seconds
        return self.core.tick(self.now)

    def join(self, peer: bytes = A, index: int = 0) -> Message:
        ((to, message),) = self.send(peer, "hello", role="actor", index=index)
        assert to == peer
        return message

    def request(self, free: int, received: int = 0, peer: bytes = A) -> list[Lease]:
        sent = self.send(peer, "lease_request", free_slots=free, leases_received=received)
        assert {to for to, _ in sent} <= {peer}
        return [lease for _, message in sent for lease in read_leases(message)]

    def finish(
        self,
        lease: Lease,
        total: float,
        peer: bytes = A,
        version: int = 0,
        *,
        error: str = "",
        num_tokens: int = 1,
        **rewards: float,
    ) -> list[tuple[bytes, Message]]:
        """Sample and score what a lease asks for; with an error, it has no rewards."""
        segment = make_segment(
            [lease.rollout_id] * num_tokens,
            prefix=lease.prefix_ids.tolist(),
            versions=[version] * num_tokens,
            finish=FinishReason.STOP,
            prompt=prompt_tokens(lease.prompt_id).tolist(),
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
        )
        answers = self.handle(peer, write_segment(segment))
        assert answers[0][1].kind == "ack", answers
        score = Score(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            rewards={} if error else {"task": total, "total": total, **rewards},
            text=f"text {lease.rollout_id}",
            error=error,
        )
        scored = self.handle(peer, write_score(score))
        return answers[1:] + [sent for sent in scored if sent[1].kind != "scored"]

    def train(self, version: int, step: int) -> list[tuple[bytes, Message]]:
        return self.send(
            LEARNER, "step_done", batch_id=step, step=step, policy_version=version, trained_tokens=1
        )


def kinds(sent: list[tuple[bytes, Message]]) -> list[tuple[bytes, str]]:
    return [(peer, message.kind) for peer, message in sent]


def batch_of(sent: list[tuple[bytes, Message]]) -> Batch:
    (message,) = [message for _, message in sent if message.kind == "batch"]
    return read_batch(message)


def fill(desk: Desk, count: int, equal: Callable[[Lease], bool] = lambda lease: False) -> None:
    """Finish `count` new rollouts; the members of a group differ unless `equal`."""
    received = desk.core.granting.actors[A].granted
    for lease in desk.request(count, received=received):
        desk.finish(lease, 1.0 if equal(lease) else float(lease.member))


def eval_desk(**sections: Any) -> Desk:
    desk = Desk(make_config(eval={"every": 2}, **sections), num_eval=4)
    desk.join()
    return desk


def answer_eval(
    desk: Desk, leases: list[Lease], totals: list[float], versions: list[int]
) -> list[tuple[bytes, Message]]:
    sent: list[tuple[bytes, Message]] = []
    for lease, total, version in zip(leases, totals, versions, strict=True):
        sent = desk.finish(lease, total, version=version, format=1.0)
    return sent
