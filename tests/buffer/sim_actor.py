"""Simulated actors: the protocol as `actors.client` and `actors.loop` have it, without a model.

They remember every token that they sampled, and batches are checked against what they remember.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from async_r1 import segment_hash
from async_r1.messages import read_ack, read_leases, write_score
from async_r1.segment_messages import write_segment
from async_r1.types import FinishReason, Lease, LeaseKind, Score, Segment, SegmentStatus
from async_r1.wire import Message
from tests.buffer.fakes import make_segment, prompt_tokens

if TYPE_CHECKING:
    from tests.buffer.simulation import World


Key = tuple[int, int]  # rollout id, lease epoch


@dataclass(slots=True)
class Truth:
    """What was really sampled for a rollout, and what it was rewarded."""

    group_id: int
    member: int
    prompt_id: str
    tokens: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    rewards: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class InFlight:
    """A lease that an actor works on."""

    lease: Lease
    tokens: list[int]  # of the whole rollout
    sent: int  # of these, how many are in segments
    versions: list[int]  # of the tokens that are not sent yet
    target: int  # length at which the rollout ends
    first: bool = True


@dataclass(slots=True)
class Actor:
    """An actor's side of the protocol, as `actors.client` and `actors.loop` have it."""

    world: "World" = field(repr=False)
    name: bytes
    index: int
    capacity: int
    version: int = 0
    received: int = 0
    last_request: tuple[int, int] | None = None
    rollouts: dict[int, InFlight] = field(default_factory=dict)
    inbox: deque[Message] = field(default_factory=deque)
    outbox: deque[Message] = field(default_factory=deque)
    leases: dict[Key, None] = field(default_factory=dict)  # that the buffer counts on
    unacknowledged: dict[Key, list[Message]] = field(default_factory=dict)  # by lease
    rejoining: bool = False  # what asks for it again asks for the same
    silent: bool = False
    gone: bool = False
    stopped: bool = False

    def send(self, kind: str, **values: Any) -> None:
        self.outbox.append(Message(kind, values))

    def hello(self) -> None:
        leases = [list(lease) for lease in self.leases]
        self.send("hello", role="actor", index=self.index, leases=leases)

    def rejoin(self) -> None:
        if self.rejoining:
            return
        self.rejoining = True
        self.received, self.last_request = 0, None
        self.hello()
        repeated = [message for messages in self.unacknowledged.values() for message in messages]
        self.outbox.extend(sorted(repeated, key=lambda message: message.kind == "score"))

    def post(self, message: Message) -> None:
        """Send what must arrive."""
        key = message.values["rollout_id"], message.values["lease_epoch"]
        self.unacknowledged.setdefault(key, []).append(message)
        self.outbox.append(message)

    def _answered(self, key: Key, kind: str, offset: int = -1) -> None:
        acknowledged, left = [], []
        for message in self.unacknowledged.pop(key, []):
            done = message.values.get("token_offset", -1) == offset
            (acknowledged if done else left).append(message)
        if left and kind != "revoked":
            self.unacknowledged[key] = left
        suspended = any(m.values.get("status") == "suspended" for m in acknowledged)
        if kind != "ack" or suspended:
            self.leases.pop(key, None)

    def take(self) -> None:
        message = self.inbox.popleft()
        if message.kind == "leases":
            leases = read_leases(message)
            self.world.grants.append((self.name, leases))
            self.received += len(leases)
            for lease in leases:
                self.leases[lease.rollout_id, lease.lease_epoch] = None
                self._begin(lease)
        elif message.kind == "ack":
            for rollout_id, epoch, offset in read_ack(message):
                self._answered((rollout_id, epoch), "ack", offset)
        elif message.kind == "scored":
            values = message.values
            self._answered((values["rollout_id"], values["lease_epoch"]), "scored")
        elif message.kind == "revoked":
            values = message.values
            self._answered((values["rollout_id"], values["lease_epoch"]), "revoked")
            key = message.values["rollout_id"]
            if key in self.rollouts and (
                self.rollouts[key].lease.lease_epoch == message.values["lease_epoch"]
            ):
                del self.rollouts[key]
        elif message.kind == "rejoin":
            self.rejoin()
        elif message.kind == "stop":
            self.stopped = True
        else:
            assert message.kind == "welcome", message
            self.rejoining = False
        self.request()

    def request(self) -> None:
        free = self.capacity - len(self.rollouts)
        if self.world.config.mode == "async" and not self.world.turbulence:
            assert free >= 0, f"{self.name!r} got more than it can take"
        request = (free, self.received)
        if request != self.last_request and not self.stopped:
            self.last_request = request
            self.send("lease_request", free_slots=free, leases_received=self.received)

    def _begin(self, lease: Lease) -> None:
        truth = self.world.truths.setdefault(
            lease.rollout_id, Truth(lease.group_id, lease.member, lease.prompt_id)
        )
        prefix = lease.prefix_ids.tolist()
        assert prefix == truth.tokens[: len(prefix)], "the prefix is not what was sampled"
        assert lease.prefix_hash == segment_hash.extend(0, lease.prefix_ids)
        if self.world.is_current(lease):  # what was sampled without acknowledgement is lost
            del truth.tokens[len(prefix) :], truth.versions[len(prefix) :]
        if lease.kind is LeaseKind.SCORE:
            self._score(lease)
            return
        length = self.world.lengths(np.random.default_rng([self.world.seed, lease.rollout_id]))
        target = max(length, len(prefix) + 1)
        self.rollouts[lease.rollout_id] = InFlight(lease, prefix, len(prefix), [], target)

    def sample(self) -> None:
        """One engine step: every rollout in flight gets a token of the actor's version."""
        for rollout_id, rollout in list(self.rollouts.items()):
            rollout.tokens.append(rollout_id * 100 + len(rollout.tokens))
            rollout.versions.append(self.version)
            lease = rollout.lease
            if len(rollout.tokens) >= rollout.target:
                self._cut(rollout, FinishReason.STOP, False)
                self._score(lease)
                del self.rollouts[rollout_id]
            elif 0 < lease.token_budget <= len(rollout.tokens) - len(lease.prefix_ids):
                self._cut(rollout, None, True)
                del self.rollouts[rollout_id]
            elif len(rollout.versions) >= self.world.config.actors.segment_tokens:
                self._cut(rollout, None, False)
        self.request()

    def _cut(self, rollout: InFlight, finish: FinishReason | None, suspend: bool) -> None:
        tokens, prefix = rollout.tokens[rollout.sent :], rollout.tokens[: rollout.sent]
        lease = rollout.lease
        prompt = prompt_tokens(lease.prompt_id).tolist() if rollout.first else None
        segment: Segment = make_segment(
            tokens,
            prefix=prefix,
            versions=rollout.versions,
            finish=finish,
            suspend=suspend,
            prompt=prompt,
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
        )
        assert (segment.status is SegmentStatus.SUSPENDED) == suspend
        truth = self.world.truths[lease.rollout_id]
        if self.world.is_current(lease):  # a fenced actor's tokens never happened
            truth.tokens[len(prefix) :] = tokens
            truth.versions[len(prefix) :] = rollout.versions
        self.post(write_segment(segment))
        rollout.sent, rollout.versions, rollout.first = len(rollout.tokens), [], False

    def _score(self, lease: Lease) -> None:
        rng = np.random.default_rng([self.world.seed, lease.group_id + 1])
        equal = lease.kind is not LeaseKind.EVAL and rng.random() < self.world.zero_variance
        task = 1.0 if equal else float((lease.member + rng.integers(2)) % 2)
        rewards = {"task": task, "format": 1.0, "total": task + 0.1}
        error = "ValueError: no digits (reward.py:3)" if self.world.fails(lease.rollout_id) else ""
        rewards = {} if error else rewards
        self.world.truths[lease.rollout_id].rewards = rewards
        score = Score(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            rewards=rewards,
            text=f"text of {lease.rollout_id}",
            error=error,
        )
        self.post(write_score(score))
