"""A simulated run whose buffer is killed again and again, and goes on from its journal.

Besides the buffer that serves, a second one hears nothing but the journal's records; after every
message the two must be equal, part by part. Killed, the buffer leaves a prefix of the records of
the message that it was at, and sends nothing of what followed from them; what actors had sent to it
and what it had sent to them is lost in part, as with sockets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from async_r1.journal_format import Frames, Record
from async_r1.wire import Message, decode, encode
from buffer.restore import Replay
from buffer.snapshot import snapshot
from tests.buffer.core_state import state_of
from tests.buffer.simulation import World


class MemoryJournal:
    """Records as a file would give them back."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, message: Message, *, frames: Frames | None = None, peer: bytes = b"") -> None:
        frames = [bytes(frame) for frame in frames or encode(message)]
        offset = len(self.records)
        self.records.append(Record(offset, offset + 1, peer, decode(frames)))

    def metrics(self) -> dict[str, float]:
        return {}

    def flush(self) -> int:
        return len(self.records)

    def close(self) -> None:
        pass


@dataclass(kw_only=True)
class KilledWorld(World):
    """`kills`: chance per message that the buffer dies of it."""

    kills: float = 0.0
    compacts: bool = False  # at every other one
    num_kills: int = 0
    num_checks: int = 0
    request: Message | None = None  # the learner's last one
    answered: bool = True

    def __post_init__(self) -> None:
        self.journal: MemoryJournal = MemoryJournal()
        self.shadow = Replay(self.make_core(self.journal))
        self._number = 0
        super().__post_init__()

    def _handle(self, peer: bytes, message: Message) -> None:
        before = len(self.journal.records)
        received = decode([bytes(frame) for frame in encode(message)])
        outgoing = self.core.handle(peer, received, self.now)
        if self.rng.random() < self.kills:
            written = len(self.journal.records) - before
            kept = int(self.rng.integers(written + 1))
            del self.journal.records[before + kept :]
            self.kill()
        else:
            self._send_all(outgoing)

    def _send_all(self, outgoing: list[tuple[bytes, Message]]) -> None:
        super()._send_all(outgoing)
        self.check_shadow()

    def check_end(self) -> None:
        if not self.num_kills:  # counters of the metrics start again from zero
            super().check_end()

    def check_shadow(self, every: int = 4) -> None:
        self.shadow.run(self.journal.records[self.shadow.num_records :])
        assert not self.shadow.lost
        self.num_checks += 1
        if self.num_checks % every:
            return
        live, again = state_of(self.core), state_of(self.shadow.core)
        for name in live:
            assert live[name] == again[name], name

    def kill(self) -> None:
        """The buffer is gone; another one reads its journal."""
        self.num_kills += 1
        for actor in self.actors:
            for _ in range(int(self.rng.integers(len(actor.outbox) + 1))):
                actor.outbox.popleft()
            for _ in range(int(self.rng.integers(len(actor.inbox) + 1))):
                actor.inbox.pop()
            actor.rejoining = False
        for _ in range(int(self.rng.integers(len(self.to_learner) + 1))):
            self.to_learner.pop()
        if self.compacts and self.num_kills % 2:
            self.compact()
        self.core = self.make_core(self.journal)
        replay = Replay(self.core)
        replay.run(list(self.journal.records))
        assert not replay.lost
        replay.restart(damaged=False)
        self.shadow = Replay(self.make_core(self.journal))
        self.check_shadow(every=1)
        self.check_acknowledged()
        for actor in self.actors:
            if not actor.silent and not actor.gone:
                actor.send("heartbeat")
        self._to_core("hello", role="learner", name="learner_000", policy_version=self.version)
        if self.request is not None and not self.answered:
            self._handle(self.learner, self.request)

    def compact(self) -> None:
        """Leave nothing of the journal but a snapshot of what it makes."""
        replay = Replay(self.make_core(self.journal))
        replay.run(list(self.journal.records))
        before, self.journal.records = state_of(replay.core), []
        for message in snapshot(replay.core):
            self.journal.append(message)
        again = Replay(self.make_core(self.journal))
        again.run(list(self.journal.records))
        after = state_of(again.core)
        for name in before:
            assert before[name] == after[name], name

    def check_acknowledged(self) -> None:
        """What no actor would send again, the buffer has."""
        waiting: dict[int, int] = {}
        for actor in self.actors:
            for messages in actor.unacknowledged.values():
                for message in messages:
                    offset = message.values.get("token_offset")
                    if offset is not None:
                        key = message.values["rollout_id"]
                        waiting[key] = min(offset, waiting.get(key, offset))
            for rollout_id, rollout in actor.rollouts.items():
                if rollout.lease.lease_epoch == self.epoch(rollout_id):
                    waiting.setdefault(rollout_id, rollout.sent)
        for rollout_id, acknowledged in waiting.items():
            rollout = self.core.book.rollouts.get(rollout_id)
            if rollout is not None:
                assert rollout.num_tokens >= min(
                    acknowledged, len(self.truths[rollout_id].tokens)
                ), rollout_id

    def epoch(self, rollout_id: int) -> int:
        rollout = self.core.book.rollouts.get(rollout_id)
        return rollout.lease_epoch if rollout is not None else -1

    def _to_core(
        self, kind: str, arrays: dict[str, np.ndarray] | None = None, **values: Any
    ) -> None:
        if kind == "hello":
            super()._to_core(kind, **values)
            return
        self._number += 1
        self.request = Message(kind, {**values, "request": self._number}, arrays or {})
        self.answered = False
        self._handle(self.learner, self.request)

    def restart_learner(self) -> None:
        self.request, self.answered = None, True  # nobody is left to repeat it
        super().restart_learner()

    def learn(self) -> None:
        if self.waiting:
            message = self.to_learner[0]
            if message.values.get("request") != self._number:
                self.to_learner.popleft()  # to what was asked before
                return
            self.answered = True
        super().learn()
