"""A run without sockets, clocks or models: the real `BufferCore` among simulated peers.

Messages go through the real wire encoding and wait in one queue per peer and direction, as ZeroMQ
keeps them; a seeded generator chooses what happens next. The actors are in `sim_actor`, and what
must hold of all this in `sim_checks`.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.errors import AsyncR1Error, WireError
from async_r1.messages import read_batch
from async_r1.types import Batch, Lease
from async_r1.wire import Message, decode, encode
from buffer.core import BufferCore
from buffer.groups import ClosedGroup
from buffer.journal import Journal, NullJournal
from buffer.rollout import RolloutState
from tests.buffer.fakes import FakeTask
from tests.buffer.sim_actor import Actor, Truth
from tests.buffer.sim_checks import check_accounting, check_batch, check_core

LEARNER = b"learner_000/1"


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
    amnesia: float = 0.0  # chance that the learner dies with a batch, and a new one asks again
    refunded: int = 0
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
    drawn_before: list[int] = field(default_factory=list)  # batches, when each of `closed` closed
    grants: list[tuple[bytes, list[Lease]]] = field(default_factory=list)
    error: AsyncR1Error | None = None
    finished: bool = False
    waiting: bool = False
    idle_events: int = 0
    journal: Journal = field(default_factory=NullJournal)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.schedule])
        self.core = self.make_core(self.journal)
        self.actors: list[Actor] = []
        for _ in range(self.num_actors):
            self.add_actor()
        self.learner = LEARNER
        self.to_learner: deque[Message] = deque()
        self._to_core("hello", role="learner", name="learner_000", policy_version=0)

    def make_core(self, journal: Journal) -> BufferCore:
        """A buffer that has seen nothing, and whose closed groups are noted from now on."""
        core = BufferCore(
            self.config,
            FakeTask(num_eval=self.num_eval),
            journal,
            write_row=lambda stream, row: self.rows.append((stream, row)),
        )
        observe = core.drawing.put

        def put(group: ClosedGroup) -> None:
            if core is self.core:
                self.closed.append(group)
                self.drawn_before.append(self.num_drawn)
            observe(group)

        core.drawing.put = put  # type: ignore[method-assign]
        return core

    # -- what may happen ------------------------------------------------------------------

    def run(self, num_updates: int, *, max_events: int = 200_000) -> None:
        """Train `num_updates` batches; fails as soon as nothing can happen any more."""
        while self.step < num_updates and self.error is None:
            max_events -= 1
            assert max_events, "no end in sight"
            if not self.something_happens():
                self._pass_time()
        if self.error is None:
            self.check_end()

    def check_end(self) -> None:
        check_accounting(self)

    def finish(self) -> None:
        """End the run; fails unless the buffer says that it has finished."""
        self._to_core("finish", policy_version=self.version)
        for _ in range(100_000):
            if self.finished or self.error is not None:
                break
            if not self.something_happens():
                self._pass_time()
        assert self.finished or self.error is not None
        for actor in self.actors:
            while actor.inbox:
                actor.take()

    def add_actor(self) -> Actor:
        index = len(self.actors)
        capacity = self.config.actors.max_concurrent
        actor = Actor(self, f"actor_{index:03d}/{index}".encode(), index, capacity)
        actor.version = self.version
        self.actors.append(actor)
        actor.hello()
        return actor

    def something_happens(self) -> bool:
        """One random event among those that are possible; False when there is none."""
        if self.turbulence and self.rng.random() < self.turbulence:
            self._disturb()
        events: list[Callable[[], None]] = []
        for actor in self.actors:
            if actor.gone or actor.silent:
                continue
            if actor.outbox:
                events.append(lambda actor=actor: self.deliver(actor))  # type: ignore[misc]
            if actor.inbox:
                events.append(actor.take)
            if actor.rollouts and not actor.stopped:
                events.append(actor.sample)
        if self.to_learner or not self.waiting:
            events.append(self.learn)
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
                self.deliver_all(actor)
        self.tick(0.0)
        if self._signature() == before and self.turbulence:
            for actor in deaf:
                self.wake(actor)
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
            self.wake(actor)
        elif kind < 0.4:
            self.silence(actor)
        elif kind < 0.7:
            self.tick(self.config.actors.dead_after_s / 3)
        elif kind < 0.85 and sum(not a.gone for a in self.actors) > 1:
            self.leave(actor)

    def silence(self, actor: Actor) -> None:
        """An actor hangs; what it sent still arrives."""
        self.deliver_all(actor)
        actor.silent = True

    def leave(self, actor: Actor) -> None:
        self.deliver_all(actor)
        actor.send("bye")
        self.deliver(actor)
        actor.gone = True

    def tick(self, seconds: float) -> None:
        """Time passes for the buffer, and nothing else happens."""
        self.now += seconds
        self._send_all(self.core.tick(self.now))

    def wake(self, actor: Actor) -> None:
        """A silent actor wakes with all that it had; it samples nothing from old weights."""
        actor.silent = False
        actor.version = self.version

    # -- messages -------------------------------------------------------------------------

    def _to_core(
        self, kind: str, arrays: dict[str, np.ndarray] | None = None, **values: Any
    ) -> None:
        """What the learner says."""
        self._handle(self.learner, Message(kind, values, arrays or {}))

    def deliver_all(self, actor: Actor) -> None:
        while actor.outbox:
            self.deliver(actor)

    def deliver(self, actor: Actor, *, twice: bool | None = None) -> None:
        """The oldest message on its way from an actor arrives, perhaps twice."""
        message = actor.outbox.popleft()
        self._handle(actor.name, message)
        if twice is None:
            twice = self.rng.random() < 0.05
        if twice and message.kind in ("segment", "score"):
            self._handle(actor.name, message)

    def _handle(self, peer: bytes, message: Message) -> None:
        received: Message | WireError = decode([bytes(frame) for frame in encode(message)])
        self._send_all(self.core.handle(peer, received, self.now))

    def _send_all(self, outgoing: list[tuple[bytes, Message]]) -> None:
        by_name = {actor.name: actor for actor in self.actors}
        for peer, message in outgoing:
            message = decode([bytes(frame) for frame in encode(message)])
            if peer == self.learner:
                self.to_learner.append(message)
            elif peer in by_name:
                by_name[peer].inbox.append(message)
        check_core(self)

    @property
    def num_drawn(self) -> int:
        """Batches that the buffer has drawn, those on their way included."""
        return len(self.batches) + sum(message.kind == "batch" for message in self.to_learner)

    def is_current(self, lease: Lease) -> bool:
        known = self.core.book.rollouts.get(lease.rollout_id)
        return (
            known is not None
            and known.lease_epoch == lease.lease_epoch
            and known.state is RolloutState.LEASED
        )

    def fails(self, rollout_id: int) -> bool:
        """Whether its reward raises: the same whenever and by whomever it is scored."""
        return np.random.default_rng([self.seed, 7, rollout_id]).random() < self.failures

    # -- the learner ----------------------------------------------------------------------

    def learn(self) -> None:
        """The learner asks for a batch, or takes a message and does what it says."""
        if not self.waiting:
            self.waiting = True
            self._to_core("batch_request", policy_version=self.version)
            return
        message = self.to_learner.popleft()
        if message.kind == "batch" and self.amnesia and self.rng.random() < self.amnesia:
            self.waiting, self.refunded = False, self.refunded + 1
        elif message.kind == "batch":
            self._train(read_batch(message))
        elif message.kind == "error":
            from async_r1 import errors

            self.error = getattr(errors, message.values["error"])(message.values["text"])
        elif message.kind == "finished":
            self.finished = True
        else:
            assert message.kind in ("welcome", "ok"), message

    def restart_learner(self) -> None:
        """A new process in its place: what was on its way to the old one is lost."""
        self.to_learner.clear()
        self.waiting = False
        self.learner = self.learner + b"+"
        self._to_core("hello", role="learner", name="learner_000", policy_version=self.version)

    def _train(self, batch: Batch) -> None:
        self.batches.append(batch)
        check_batch(self, batch)
        self.step += 1
        if self.step % self.config.learner.updates_per_publish == 0:
            self.version += 1
            for actor in self.actors:  # the broadcast ends before the buffer hears of it
                if not actor.silent:
                    actor.version = self.version
        ids = np.unique(batch.item_ids)
        surprise = self.rng.exponential(0.1, len(ids)).astype(np.float32)
        self._to_core(
            "step_done",
            {"item_ids": ids, "surprise": surprise},
            batch_id=batch.batch_id,
            step=self.step,
            policy_version=self.version,
            trained_tokens=int(batch.mask.sum()),
        )
        self.waiting = False

    def staleness(self) -> list[int]:
        """Largest staleness of any token of each batch, masked ones too."""
        return [int((batch.policy_version - batch.versions).max()) for batch in self.batches]
