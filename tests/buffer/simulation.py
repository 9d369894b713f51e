"""A run without sockets, clocks or models: the real `BufferCore` among simulated peers.

Messages go through the real wire encoding and wait in one queue per peer and direction, as ZeroMQ
keeps them; a seeded generator chooses what happens next. The simulated actors remember every token
that they sampled, and every batch is checked against what they remember.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from async_r1 import segment_hash
from async_r1.config import Config
from async_r1.errors import AsyncR1Error, WireError
from async_r1.messages import read_batch, read_leases, write_score, write_segment
from async_r1.types import (
    Batch,
    FinishReason,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
)
from async_r1.wire import Message, decode, encode
from buffer.core import BufferCore
from buffer.groups import ClosedGroup
from buffer.journal import NullJournal
from buffer.rollout import RolloutState
from tests.buffer.fakes import FakeTask, logprobs_of, make_segment, prompt_tokens

LEARNER = b"learner_000/1"
ERRORS = "reward/errors"


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

    name: bytes
    index: int
    capacity: int
    version: int = 0
    received: int = 0
    last_request: tuple[int, int] | None = None
    rollouts: dict[int, InFlight] = field(default_factory=dict)
    inbox: deque[Message] = field(default_factory=deque)
    outbox: deque[Message] = field(default_factory=deque)
    silent: bool = False
    gone: bool = False
    stopped: bool = False

    def send(self, kind: str, **values: Any) -> None:
        self.outbox.append(Message(kind, values))

    def hello(self) -> None:
        self.send("hello", role="actor", index=self.index)


@dataclass(kw_only=True)
class World:
    """The buffer, its actors and its learner."""

    config: Config
    seed: int  # of lengths and rewards
    schedule: int = 0  # seed of what happens when
    num_actors: int = 2
    lengths: Callable[[np.random.Generator], int] = lambda rng: int(rng.integers(1, 9))
    zero_variance: float = 0.0  # share of groups whose rewards are all equal
    failures: float = 0.0  # share of rollouts whose reward raises
    turbulence: float = 0.0  # chance per event that an actor falls silent, leaves or comes back
    num_eval: int = 4
    version: int = 0
    step: int = 0
    now: float = 100.0
    batches: list[Batch] = field(default_factory=list)
    truths: dict[int, Truth] = field(default_factory=dict)
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    trained: Counter[int] = field(default_factory=Counter)
    closed: list[ClosedGroup] = field(default_factory=list)
    grants: list[tuple[bytes, list[Lease]]] = field(default_factory=list)
    error: AsyncR1Error | None = None
    finished: bool = False
    waiting: bool = False
    idle_events: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.schedule])
        self.core = BufferCore(
            self.config,
            FakeTask(num_eval=self.num_eval),
            NullJournal(),
            write_row=lambda stream, row: self.rows.append((stream, row)),
        )
        observe = self.core.drawing.put

        def put(group: ClosedGroup) -> None:
            self.closed.append(group)
            observe(group)

        self.core.drawing.put = put  # type: ignore[method-assign]
        self.actors: list[Actor] = []
        for _ in range(self.num_actors):
            self.add_actor()
        self.to_learner: deque[Message] = deque()
        self._to_core("hello", role="learner", name="learner_000", policy_version=0)

    # -- what may happen ------------------------------------------------------------------

    def run(self, num_updates: int, *, max_events: int = 200_000) -> None:
        """Train `num_updates` batches; fails as soon as nothing can happen any more."""
        while self.step < num_updates and self.error is None:
            max_events -= 1
            assert max_events, "no end in sight"
            if not self._something_happens():
                self._pass_time()
        if self.error is None:
            self.check_accounting()

    def finish(self) -> None:
        """End the run; fails unless the buffer says that it has finished."""
        self._to_core("finish", policy_version=self.version)
        for _ in range(100_000):
            if self.finished or self.error is not None:
                break
            if not self._something_happens():
                self._pass_time()
        assert self.finished or self.error is not None
        for actor in self.actors:
            while actor.inbox:
                self._take(actor)

    def add_actor(self) -> Actor:
        index = len(self.actors)
        capacity = self.config.actors.max_concurrent
        actor = Actor(f"actor_{index:03d}/{index}".encode(), index, capacity)
        actor.version = self.version
        self.actors.append(actor)
        actor.hello()
        return actor

    def _something_happens(self) -> bool:
        """One random event among those that are possible; False when there is none."""
        if self.turbulence and self.rng.random() < self.turbulence:
            self._disturb()
        events: list[Callable[[], None]] = []
        for actor in self.actors:
            if actor.gone or actor.silent:
                continue
            if actor.outbox:
                events.append(lambda actor=actor: self._deliver(actor))  # type: ignore[misc]
            if actor.inbox:
                events.append(lambda actor=actor: self._take(actor))  # type: ignore[misc]
            if actor.rollouts and not actor.stopped:
                events.append(lambda actor=actor: self._sample(actor))  # type: ignore[misc]
        if self.to_learner or not self.waiting:
            events.append(self._learn)
        if not events:
            return False
        events[int(self.rng.integers(len(events)))]()
        return True

    def _pass_time(self) -> None:
        """Nothing can happen before a deadline: a live system must go on after it."""
        before = self._signature()
        deaf = [actor for actor in self.actors if actor.silent and not actor.gone]
        self.now += self.config.actors.dead_after_s + 1 if deaf else 0.5
        for actor in self.actors:
            if not actor.silent and not actor.gone:
                actor.send("heartbeat")
                self._deliver_all(actor)
        self._send_all(self.core.tick(self.now))
        if self._signature() == before and self.turbulence:
            for actor in deaf:
                self._return(actor)
            if not any(not actor.gone for actor in self.actors):
                self.add_actor()
        assert self._signature() != before, self._describe_deadlock()

    def _signature(self) -> tuple[Any, ...]:
        """Changes whenever anybody has something to do."""
        return (
            len(self.to_learner),
            [(actor.silent, len(actor.inbox), len(actor.outbox)) for actor in self.actors],
        )

    def _describe_deadlock(self) -> str:
        drawing = self.core.drawing
        return (
            f"deadlock at version {self.version}, step {self.step}: {drawing.admission}; "
            f"kept {len(drawing.table)}, live {self.core.book.num_live}; waits for "
            f"{drawing.waits_for(self.version, list(self.core.book.groups.values()))}"
        )

    def _disturb(self) -> None:
        actor = self.actors[int(self.rng.integers(len(self.actors)))]
        kind = self.rng.random()
        if actor.gone:
            if len(self.actors) < 6:
                self.add_actor()
        elif actor.silent:
            self._return(actor)
        elif kind < 0.4:
            self._deliver_all(actor)  # it hangs; what it sent still arrives
            actor.silent = True
        elif kind < 0.7:
            self.now += self.config.actors.dead_after_s / 3
            self._send_all(self.core.tick(self.now))
        elif kind < 0.85 and sum(not a.gone for a in self.actors) > 1:
            self._deliver_all(actor)
            actor.send("bye")
            self._deliver(actor)
            actor.gone = True

    def _return(self, actor: Actor) -> None:
        """A silent actor wakes with all that it had; it samples nothing from old weights."""
        actor.silent = False
        actor.version = self.version

    # -- messages -------------------------------------------------------------------------

    def _to_core(self, kind: str, **values: Any) -> None:
        self._handle(LEARNER, Message(kind, values))

    def _deliver_all(self, actor: Actor) -> None:
        while actor.outbox:
            self._deliver(actor)

    def _deliver(self, actor: Actor) -> None:
        message = actor.outbox.popleft()
        self._handle(actor.name, message)
        if message.kind in ("segment", "score") and self.rng.random() < 0.05:
            self._handle(actor.name, message)  # at least once

    def _handle(self, peer: bytes, message: Message) -> None:
        received: Message | WireError = decode([bytes(frame) for frame in encode(message)])
        self._send_all(self.core.handle(peer, received, self.now))

    def _send_all(self, outgoing: list[tuple[bytes, Message]]) -> None:
        by_name = {actor.name: actor for actor in self.actors}
        for peer, message in outgoing:
            message = decode([bytes(frame) for frame in encode(message)])
            if peer == LEARNER:
                self.to_learner.append(message)
            elif peer in by_name:
                by_name[peer].inbox.append(message)
        self.check_core()

    # -- the actors -----------------------------------------------------------------------

    def _take(self, actor: Actor) -> None:
        message = actor.inbox.popleft()
        if message.kind == "leases":
            leases = read_leases(message)
            self.grants.append((actor.name, leases))
            actor.received += len(leases)
            for lease in leases:
                self._begin(actor, lease)
        elif message.kind == "revoked":
            key = message.values["rollout_id"]
            if key in actor.rollouts and (
                actor.rollouts[key].lease.lease_epoch == message.values["lease_epoch"]
            ):
                del actor.rollouts[key]
        elif message.kind == "rejoin":
            actor.received, actor.last_request = 0, None
            actor.hello()
        elif message.kind == "stop":
            actor.stopped = True
        else:
            assert message.kind in ("welcome", "ack"), message
        self._request(actor)

    def _request(self, actor: Actor) -> None:
        free = actor.capacity - len(actor.rollouts)
        if self.config.mode == "async" and not self.turbulence:
            assert free >= 0, f"{actor.name!r} got more than it can take"
        request = (free, actor.received)
        if request != actor.last_request and not actor.stopped:
            actor.last_request = request
            actor.send("lease_request", free_slots=free, leases_received=actor.received)

    def _begin(self, actor: Actor, lease: Lease) -> None:
        truth = self.truths.setdefault(
            lease.rollout_id, Truth(lease.group_id, lease.member, lease.prompt_id)
        )
        prefix = lease.prefix_ids.tolist()
        assert prefix == truth.tokens[: len(prefix)], "the prefix is not what was sampled"
        assert lease.prefix_hash == segment_hash.extend(0, lease.prefix_ids)
        if self._is_current(lease):  # what an earlier lease sampled without acknowledgement is lost
            del truth.tokens[len(prefix) :], truth.versions[len(prefix) :]
        if lease.kind is LeaseKind.SCORE:
            self._score(actor, lease)
            return
        length = self.lengths(np.random.default_rng([self.seed, lease.rollout_id]))
        target = max(length, len(prefix) + 1)
        actor.rollouts[lease.rollout_id] = InFlight(lease, prefix, len(prefix), [], target)

    def _sample(self, actor: Actor) -> None:
        """One engine step: every rollout in flight gets a token of the actor's version."""
        for rollout_id, rollout in list(actor.rollouts.items()):
            rollout.tokens.append(rollout_id * 100 + len(rollout.tokens))
            rollout.versions.append(actor.version)
            lease = rollout.lease
            if len(rollout.tokens) >= rollout.target:
                self._cut(actor, rollout, FinishReason.STOP, False)
                self._score(actor, lease)
                del actor.rollouts[rollout_id]
            elif 0 < lease.token_budget <= len(rollout.tokens) - len(lease.prefix_ids):
                self._cut(actor, rollout, None, True)
                del actor.rollouts[rollout_id]
            elif len(rollout.versions) >= self.config.actors.segment_tokens:
                self._cut(actor, rollout, None, False)
        self._request(actor)

    def _cut(
        self, actor: Actor, rollout: InFlight, finish: FinishReason | None, suspend: bool
    ) -> None:
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
        truth = self.truths[lease.rollout_id]
        if self._is_current(lease):  # a fenced actor's tokens never happened
            truth.tokens[len(prefix) :] = tokens
            truth.versions[len(prefix) :] = rollout.versions
        actor.outbox.append(write_segment(segment))
        rollout.sent, rollout.versions, rollout.first = len(rollout.tokens), [], False

    def _is_current(self, lease: Lease) -> bool:
        known = self.core.book.rollouts.get(lease.rollout_id)
        return (
            known is not None
            and known.lease_epoch == lease.lease_epoch
            and known.state is RolloutState.LEASED
        )

    def _score(self, actor: Actor, lease: Lease) -> None:
        rng = np.random.default_rng([self.seed, lease.group_id + 1])
        equal = lease.kind is not LeaseKind.EVAL and rng.random() < self.zero_variance
        task = 1.0 if equal else float((lease.member + rng.integers(2)) % 2)
        rewards = {"task": task, "format": 1.0, "total": task + 0.1}
        error = "ValueError: no digits (reward.py:3)" if self.fails(lease.rollout_id) else ""
        rewards = {} if error else rewards
        self.truths[lease.rollout_id].rewards = rewards
        score = Score(
            rollout_id=lease.rollout_id,
            lease_epoch=lease.lease_epoch,
            rewards=rewards,
            text=f"text of {lease.rollout_id}",
            error=error,
        )
        actor.outbox.append(write_score(score))

    def fails(self, rollout_id: int) -> bool:
        """Whether its reward raises: the same whenever and by whomever it is scored."""
        return np.random.default_rng([self.seed, 7, rollout_id]).random() < self.failures

    # -- the learner ----------------------------------------------------------------------

    def _learn(self) -> None:
        if not self.waiting:
            self.waiting = True
            self._to_core("batch_request", policy_version=self.version)
            return
        message = self.to_learner.popleft()
        if message.kind == "batch":
            self._train(read_batch(message))
        elif message.kind == "error":
            from async_r1 import errors

            self.error = getattr(errors, message.values["error"])(message.values["text"])
        elif message.kind == "finished":
            self.finished = True
        else:
            assert message.kind in ("welcome", "ok"), message

    def _train(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.check_batch(batch)
        self.step += 1
        if self.step % self.config.learner.updates_per_publish == 0:
            self.version += 1
            for actor in self.actors:  # the broadcast ends before the buffer hears of it
                if not actor.silent:
                    actor.version = self.version
        self._to_core(
            "step_done",
            batch_id=batch.batch_id,
            step=self.step,
            policy_version=self.version,
            trained_tokens=int(batch.mask.sum()),
        )
        self.waiting = False

    # -- what must hold -------------------------------------------------------------------

    def check_core(self) -> None:
        drawing = self.core.drawing
        valid, problem = drawing.check_valid()
        assert valid, problem

    def check_batch(self, batch: Batch) -> None:
        """Everything in a batch against what was sampled, in slow Python."""
        eta = self.config.staleness.eta
        assert batch.policy_version == self.version
        starts = np.concatenate([[0], np.cumsum(batch.completion_lens)])
        prompt_starts = np.concatenate([[0], np.cumsum(batch.prompt_lens)])
        rewards_of: dict[int, list[float]] = {}
        group_of: dict[int, int] = {}
        for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
            truth = self.truths[rollout_id]
            part = slice(int(starts[i]), int(starts[i + 1]))
            prompt = batch.prompt_ids[prompt_starts[i] : prompt_starts[i + 1]]
            assert prompt.tolist() == prompt_tokens(truth.prompt_id).tolist()
            assert batch.token_ids[part].tolist() == truth.tokens
            assert batch.versions[part].tolist() == truth.versions
            expected = logprobs_of(np.asarray(truth.tokens))
            assert batch.behavior_logprobs[part].tolist() == expected.tolist()
            mask = [int(self.version - version <= eta) for version in truth.versions]
            assert batch.mask[part].tolist() == mask
            assert batch.rewards[i] == np.float32(truth.rewards["total"])
            assert batch.item_ids[i] == truth.group_id
            assert group_of.setdefault(int(batch.groups[i]), truth.group_id) == truth.group_id
            rewards_of.setdefault(truth.group_id, []).append(truth.rewards["total"])
        assert len(set(group_of.values())) == len(group_of), "a group is in the batch twice"
        assert 1 <= len(group_of) <= self.config.learner.groups_per_update
        for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
            rewards = rewards_of[self.truths[rollout_id].group_id]
            advantage = self.truths[rollout_id].rewards["total"] - sum(rewards) / len(rewards)
            assert abs(batch.advantages[i] - advantage) < 1e-6
        assert batch.mask.any()
        size = self.config.buffer.group_size
        for group_id, rewards in rewards_of.items():
            assert len(rewards) >= min(size, self.config.buffer.min_rollouts)
            if not self.config.buffer.group_deadline_s + self.config.buffer.group_deadline_versions:
                members = [i for i, truth in self.truths.items() if truth.group_id == group_id]
                assert len(rewards) == size - sum(map(self.fails, members))
        for group_id in group_of.values():
            self.trained[group_id] += 1
            assert self.trained[group_id] <= self.config.buffer.max_times_sampled

    def staleness(self) -> list[int]:
        """Largest staleness of any token of each batch, masked ones too."""
        return [int((batch.policy_version - batch.versions).max()) for batch in self.batches]

    def check_accounting(self) -> None:
        """Every closed group was trained, had no variance or too few rewards, was dropped, or is
        kept; every failed reward was counted."""
        counts: Counter[str] = Counter()
        for stream, row in self.rows:
            if stream == "buffer":
                counts.update(
                    {k: v for k, v in row.items() if k.startswith("groups/") or k == ERRORS}
                )
        counts.update(self.core.stats.counts)
        closed = {group.group_id for group in self.closed}
        assert len(closed) == len(self.closed) == counts["groups/closed"]
        kept = set(self.core.drawing.table.items())
        zero = {group.group_id for group in self.closed if group.zero_variance}
        assert len(zero) == counts["groups/zero_variance"]
        too_few = {group.group_id for group in self.closed if group.too_few}
        assert len(too_few) == counts["groups/failed"]
        assert not too_few & (set(self.trained) | kept | zero)
        gone = closed - set(self.trained) - kept - too_few
        if not self.config.buffer.keep_zero_variance:
            assert not zero & (set(self.trained) | kept)
            gone -= zero
        assert len(gone) <= counts["groups/dropped_overdue"] + counts["groups/removed"]
        if self.config.buffer.max_times_sampled == 1:
            assert not set(self.trained) & kept
            assert len(gone) == counts["groups/dropped_overdue"] + counts["groups/removed"]
