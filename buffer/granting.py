"""Who gets leases: the actors, how many rollouts each can take, and the leases they are sent."""

from collections.abc import Callable, Iterator

import numpy as np

from async_r1.channels import peer_name
from async_r1.config import Config
from async_r1.messages import write_leases
from async_r1.types import Lease, LeaseKind
from async_r1.wire import Message
from buffer.free_slots import Actor, FreeSlots
from buffer.groups import Group
from buffer.lease_book import LeaseBook
from buffer.rollout import Rollout
from buffer.stats import BufferStats


class Granting:
    """Turns lease requests into leases."""

    def __init__(self, config: Config, book: LeaseBook, stats: BufferStats) -> None:
        self._config = config
        self._book = book
        self._stats = stats
        self._blocked_since: float | None = None
        self._blocked_s = 0.0
        self._now = 0.0
        self._free = FreeSlots()

    @property
    def actors(self) -> dict[bytes, Actor]:
        """By identity, in the order in which they joined."""
        return self._free.actors

    def joined(self, peer: bytes, index: int, now: float) -> None:
        """An actor said hello; said twice, the leases that are on their way still count."""
        self._free.join(peer, index, now)

    def left(self, peer: bytes) -> None:
        self._free.leave(peer)

    def saw(self, peer: bytes, now: float) -> None:
        self._now = now
        if peer in self.actors:
            self.actors[peer].last_seen = now

    def requested(self, peer: bytes, free_slots: int, leases_received: int) -> None:
        """An actor can take `free_slots` more, having received `leases_received` so far."""
        if peer in self.actors:
            self._free.requested(peer, free_slots, leases_received)

    def silent(self, now: float) -> list[bytes]:
        """Actors unheard of for too long, which are forgotten."""
        self._now = now
        limit = self._config.actors.dead_after_s
        gone = [peer for peer, actor in self.actors.items() if now - actor.last_seen > limit]
        for peer in gone:
            self.left(peer)
        return gone

    def grant(
        self, version: int, open_group: Callable[[], Group | None], eval_only: bool
    ) -> Iterator[tuple[bytes, Message]]:
        """The `leases` messages that are possible now."""
        if self._config.mode == "sync":
            yield from self._grant_batch(version, open_group, eval_only)
            return
        leases: dict[bytes, list[Lease]] = {}
        # The emptiest: what one actor prefetches must not be what another could sample now.
        while (peer := self._free.emptiest()) is not None:
            rollout = self._book.next(version, open_group)
            if rollout is None:
                break
            leases.setdefault(peer, []).append(self._lease(rollout, peer, version))
            self._free.granted(peer)
        for peer, granted in leases.items():
            yield peer, write_leases(granted)
        emptiest = self._free.emptiest()
        free = self.actors[emptiest].free_slots if emptiest is not None else 0
        self._note_blocked(free > self._config.actors.prefetch)

    def _grant_batch(
        self, version: int, open_group: Callable[[], Group | None], eval_only: bool
    ) -> Iterator[tuple[bytes, Message]]:
        """Sync mode: everything that may be leased, in one message per actor, once all actors
        are idle. Rollouts go to actors by id, so the split does not depend on timing."""
        config = self._config
        capacity = config.actors.max_concurrent
        ready = [actor.free_slots >= capacity for actor in self.actors.values()]
        if len(ready) < config.actors.count or not all(ready):
            return
        peers = [peer for peer, _ in sorted(self.actors.items(), key=lambda item: item[1].index)]
        leases: dict[bytes, list[Lease]] = {peer: [] for peer in peers}
        while True:
            rollout = self._book.next(version, (lambda: None) if eval_only else open_group)
            if rollout is None or (eval_only and rollout.kind is not LeaseKind.EVAL):
                break
            peer = peers[rollout.rollout_id % len(peers)]
            leases[peer].append(self._lease(rollout, peer, version))
        for peer in peers:
            if leases[peer]:
                self._free.granted(peer, len(leases[peer]))
                self.actors[peer].free_slots = 0
                yield peer, write_leases(leases[peer])

    def _lease(self, rollout: Rollout, peer: bytes, version: int) -> Lease:
        config = self._config
        evaluating = rollout.kind is LeaseKind.EVAL
        budget = 0 if evaluating or config.mode == "sync" else config.actors.rollout_token_budget
        self._stats.counts["leases/granted"] += 1
        sequence = np.random.SeedSequence(
            [config.seed, rollout.rollout_id, rollout.lease_epoch + 1]
        )
        return rollout.lease(
            peer,
            version=version,
            seed=int(sequence.generate_state(1)[0]),
            token_budget=budget,
            max_new_tokens=config.task.max_new_tokens,
            temperature=config.eval.temperature if evaluating else config.actors.temperature,
        )

    def describe(self) -> str:
        """The actors and their free slots, for error messages."""
        names = [f"{peer_name(p)} ({actor.free_slots} free)" for p, actor in self.actors.items()]
        return ", ".join(names) or "none"

    def take_blocked_s(self, now: float) -> float:
        """Seconds since the last call in which slots were free but nothing was admitted."""
        self._now = now
        since, blocked_s = self._blocked_since, self._blocked_s
        if since is not None:
            blocked_s += now - since
            self._blocked_since = now
        self._blocked_s = 0.0
        return blocked_s

    def _note_blocked(self, blocked: bool) -> None:
        if blocked and self._blocked_since is None:
            self._blocked_since = self._now
            self._stats.counts["staleness/admission_blocked"] += 1
        elif not blocked and self._blocked_since is not None:
            self._blocked_s += self._now - self._blocked_since
            self._blocked_since = None
