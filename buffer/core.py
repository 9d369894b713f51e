"""The buffer's decisions as a state machine: messages in, messages out; no socket, no clock.

    actor:   hello, lease_request -> leases;  segment -> ack | revoked;  score;  heartbeat;  bye
    learner: hello, batch_request -> batch;   step_done -> ok;  finish -> finished;  heartbeat

Every wait is a recorded request that a later event answers; `tick` only serves deadlines. What
actors say is dealt with in `actor_side`; here is the learner's side, and the order of things.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from async_r1.config import Config
from async_r1.errors import (
    AsyncR1Error,
    DeadlineError,
    ProtocolError,
    TrainingError,
    WireError,
)
from async_r1.failpoints import failpoint
from async_r1.fields import get, get_int
from async_r1.messages import read_surprise, write_batch, write_error
from async_r1.tasks.protocol import Task
from async_r1.wire import Message
from buffer.actor_side import ActorSide
from buffer.groups import ClosedGroup
from buffer.journal import Journal
from buffer.rollout import Rollout
from buffer.state import BufferState

log = logging.getLogger("buffer")

MAX_ERROR_CHARS = 1000  # a bad message may be megabytes, and its error quotes it


@dataclass(frozen=True, slots=True)
class _BatchRequest:
    peer: bytes
    version: int
    since: float
    number: int


@dataclass(frozen=True, slots=True)
class Shipped:
    """The last batch, and whose which request it answered: asked again, that is the answer."""

    peer: bytes
    number: int
    batch_id: int
    message: Message | None = None  # None: to be made again, after a restart


class BufferCore:
    """State of the whole run as far as sampling decisions go."""

    def __init__(
        self,
        config: Config,
        task: Task,
        journal: Journal,
        *,
        write_row: Callable[[str, dict[str, Any]], None] = lambda name, row: None,
        record: Callable[[int, list[ClosedGroup], list[Rollout]], None] = lambda *args: None,
        vocab_size: int | None = None,
    ) -> None:
        """`write_row(stream, row)` takes metric rows; `record(step, groups, failed)` the groups of
        a draw and the rollouts that failed to be scored since the one before. `vocab_size` is the
        model's; None: as the first actor says."""
        self._state = BufferState(config, task, journal, write_row)
        self._actors = ActorSide(self._state)
        self._state.set_vocab_size(vocab_size)
        self._record = record
        self._batch_request: _BatchRequest | None = None
        self._finish: tuple[bytes, int] | None = None  # who asked for the end, in which request
        self.shipped: Shipped | None = None
        self._asked_at: float | None = None  # when the learner last asked or told something
        self._row_since = 0.0
        self._handlers: dict[str, Callable[[bytes, Message], None]] = {
            **self._actors.handlers,
            "hello": self._on_hello,
            "batch_request": self._on_batch_request,
            "step_done": self._on_step_done,
            "finish": self._on_finish,
        }
        self.config = config
        self.stats, self.book = self._state.stats, self._state.book
        self.drawing, self.granting = self._state.drawing, self._state.granting
        self.curriculum, self.evals = self._state.curriculum, self._state.evals
        self.finished = False
        self.error: AsyncR1Error | None = None

    @property
    def state(self) -> BufferState:
        """The parts; for whoever restores or inspects them."""
        return self._state

    @property
    def actor_side(self) -> ActorSide:
        """The same for what follows from what actors say."""
        return self._actors

    @property
    def version(self) -> int:
        """The latest version that was published."""
        return self._state.version

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._state.step

    def handle(
        self, peer: bytes, message: Message | WireError, now: float
    ) -> list[tuple[bytes, Message]]:
        """React to one message, or to bytes that are none; returns the messages to send.

        A bad message is logged, counted and answered with `error`; it never raises.
        """
        return self.handle_all([(peer, message)], now)

    def handle_all(
        self, received: Iterable[tuple[bytes, Message | WireError]], now: float
    ) -> list[tuple[bytes, Message]]:
        """React to messages in their order, and then once to what they have made possible."""
        self._state.now = now
        for peer, message in received:
            try:
                if isinstance(message, WireError):
                    raise message
                handler = self._handlers.get(message.kind)
                if handler is None:
                    raise WireError(f"no message {message.kind!r} in this protocol")
                self.granting.saw(peer, now)
                handler(peer, message)
            except (WireError, ProtocolError) as error:
                self._reject(peer, message, error)
        self._proceed()
        return self._state.take_outbox()

    def _reject(
        self, peer: bytes, message: Message | WireError, error: WireError | ProtocolError
    ) -> None:
        text = str(error)[:MAX_ERROR_CHARS]
        self._state.refused(peer, error.reason, text)
        number = message.values.get("request") if isinstance(message, Message) else None
        self._state.outbox.append((peer, _numbered(write_error(error, text), number)))

    def tick(self, now: float) -> list[tuple[bytes, Message]]:
        """Serve deadlines; called at least once a second."""
        self._state.now = now
        self._state.refusals.tick(now)
        self._actors.release_silent()
        self._actors.close_due_groups()
        self._state.may_draw = True
        self._check_deadlines()
        self._proceed()
        return self._state.take_outbox()

    def _on_hello(self, peer: bytes, message: Message) -> None:
        role = get(message, "role", str)
        if role == "actor":
            index = get_int(message, "index")
            if "vocab_size" in message.values:
                self._state.set_vocab_size(get_int(message, "vocab_size", 1))
            self._actors.joined(peer, index, _leases(message))
        elif role == "learner":
            self._state.learners.add(peer)
        else:
            raise WireError(f"hello.role must be actor or learner, got {role!r}")
        credit = self.config.actors.credit_bytes
        welcome = Message("welcome", {"policy_version": self.version, "credit_bytes": credit})
        self._state.outbox.append((peer, _numbered(welcome, message.values.get("request"))))

    def _on_batch_request(self, peer: bytes, message: Message) -> None:
        version = get_int(message, "policy_version")
        if version < self.version:
            raise ProtocolError(f"batch_request for version {version} after {self.version}")
        number = _number(message)
        if self._ship_again(peer, number):
            return
        self._asked_at = self._state.now
        self._refund(holding=message.values.get("holding", []))
        self._state.journal.append(Message("batch_request", {"policy_version": version}), peer=peer)
        self.drawing.requested(version)
        self._batch_request = _BatchRequest(peer, version, self._state.now, number)
        self._state.may_draw = True

    def _on_step_done(self, peer: bytes, message: Message) -> None:
        version = get_int(message, "policy_version")
        if version < self.version:
            raise ProtocolError(f"step_done for version {version} after {self.version}")
        published = version > self.version
        self.trained(message)
        self._state.journal.append(message, peer=peer)
        ok = Message("ok")
        self._state.outbox.append((peer, _numbered(ok, message.values.get("request"))))
        if published:
            self._version_row()
            self._actors.close_due_groups()
            self._actors.notice_overdue()

    def _ship_again(self, peer: bytes, number: int) -> bool:
        """Whether a request is one that was answered already; then the answer is the same, for the
        learner may have got it."""
        shipped = self.shipped
        if shipped is None or not number or (shipped.peer, shipped.number) != (peer, number):
            return False
        if shipped.message is None:
            batch = self.drawing.assemble_again(shipped.batch_id)
            if batch is None:
                return False
            shipped = replace(shipped, message=_numbered(write_batch(batch), number))
            self.shipped = shipped
        assert shipped.message is not None
        self._state.outbox.append((peer, shipped.message))
        return True

    def trained(self, message: Message) -> None:
        """A step was done, as `step_done` says; said twice, nothing happens.

        Raises:
            WireError: it does not say so.
        """
        step, version = get_int(message, "step"), get_int(message, "policy_version")
        batch_id, surprise = get_int(message, "batch_id"), read_surprise(message)
        self.drawing.acknowledged(batch_id)
        self.drawing.surprised(*surprise)
        self._asked_at = self._state.now
        self._state.step = step
        if version > self.version:
            self._state.version = version
            self._state.may_draw = True
            self.drawing.published(version)
            self.evals.published(version)

    def _refund(self, holding: object) -> None:
        """A learner that asks for a batch has what it holds, and trains no other that it was sent:
        it started anew, or the buffer did."""
        for batch_id in self.drawing.outstanding.batch_ids():
            if not isinstance(holding, list) or batch_id not in holding:
                self.drawing.refund(batch_id)
                self._state.journal.append(Message("draw_refunded", {"batch_id": batch_id}))

    def _on_finish(self, peer: bytes, message: Message) -> None:
        self._finish = peer, _number(message)
        if not self._state.finishing:
            self._state.log("finish")
            self.finish()

    def finish(self) -> None:
        """The learner is done: what is in flight will not train."""
        self._state.finishing = True
        self._actors.revoke_all()
        self.evals.published(self.version, last=True)

    def _proceed(self) -> None:
        """Do whatever has become possible."""
        self._actors.start_eval()
        self._answer_batch_request()
        self._actors.grant()
        if self._finish is not None and self.evals.idle and not self.finished:
            peer, number = self._finish
            self._state.outbox.append((peer, _numbered(Message("finished"), number)))
            for actor in self.granting.actors:
                self._state.send(actor, "stop")
            self.finished = True

    def _answer_batch_request(self) -> None:
        request = self._batch_request
        if request is None or not self._state.may_draw:
            return
        self._state.may_draw = False
        try:
            self.drawing.check_barren()
        except TrainingError as error:
            self._fail(request.peer, error, request.number)
            return
        if self._round_is_open:
            return
        batch = self.drawing.draw(request.version, list(self.book.groups.values()))
        if batch is None:
            return
        self._batch_request = None
        draw = self.drawing.last_draw
        values = {
            "batch_id": batch.batch_id,
            "version": request.version,
            "request": request.number,
            "group_ids": sorted({item.group_id for item in draw.items}),
            "rollout_ids": [[r.rollout_id for r in item.rollouts] for item in draw.items],
            "left": self.stats.selection.take_left(),
        }
        arrays = {
            "item_ids": np.asarray(draw.item_ids, np.int32),
            "inclusion_probs": np.asarray(draw.inclusion_probs, np.float32),
            "priorities": self.drawing.priorities_of(draw.item_ids),
        }
        failpoint("draw")
        self._state.journal.append(Message("draw", values, arrays), peer=request.peer)
        self._record(self.step + 1, draw.items, self.stats.take_failed())
        shipped = _numbered(write_batch(batch), request.number)
        self.shipped = Shipped(request.peer, request.number, batch.batch_id, shipped)
        self._state.outbox.append((request.peer, shipped))

    @property
    def _round_is_open(self) -> bool:
        """In sync mode a draw waits until all groups that its version admits have closed, so that
        what it takes does not depend on timing."""
        admits = self.drawing.admission.admits(self.version)
        return self.config.mode == "sync" and (self.book.num_live > 0 or admits)

    def _check_deadlines(self) -> None:
        now = self._state.now
        request, limit = self._batch_request, self.config.buffer.wait_timeout_s
        if request is not None and now - request.since > limit:
            waits_for = self._batch_waits_for(request.version)
            text = f"no batch for version {request.version} in {limit:g} s: waits for {waits_for}"
            error = DeadlineError(f"{text}; actors: {self.granting.describe()}")
            self._fail(request.peer, error, request.number)
        asked = self._asked_at
        if request is None and asked is not None and now - asked > limit:
            if blocked := self.drawing.blocked_by(self.version):
                self._asked_at = None  # said once, until it asks again
                log.warning("the learner asked for nothing in %g s; %s", now - asked, blocked)
        running, limit = self.evals.running, self.config.eval.timeout_s
        if running is not None and now - running.started_at > limit:
            error = DeadlineError(
                f"eval of version {self.evals.last} took more than {limit:g} s: "
                f"{running.num_missing} of {len(running.rollouts)} rollouts missing; actors: "
                f"{self.granting.describe()}"
            )
            waiting = (request.peer, request.number) if request is not None else (None, 0)
            peer, number = self._finish or waiting
            self._fail(peer, error, number)

    def _batch_waits_for(self, version: int) -> str:
        live = list(self.book.groups.values())
        if self._round_is_open and not live:
            return "the eval to end" if self._state.eval_first else "actors to be idle"
        return self.drawing.waits_for(version, live)

    def _fail(self, peer: bytes | None, error: AsyncR1Error, number: int) -> None:
        """End, for the run cannot go on; and tell the learner if it waits for an answer."""
        self._batch_request = None
        if peer is not None:
            values = {"error": type(error).__name__, "text": str(error)}
            self._state.outbox.append((peer, _numbered(Message("error", values), number)))
        self.error = error

    def _version_row(self) -> None:
        now = self._state.now
        elapsed = max(now - self._row_since, 1e-9)
        self._row_since = now
        row = {
            "step": self.step,
            "policy_version": self.version,
            "groups/live": self.book.num_live,
            "admission/blocked_frac": self.granting.take_blocked_s(now) / elapsed,
            **self.stats.take_row(),
            **self.stats.selection.take_row(self.version),
            **self.book.waits.take(self.version),
            **self.drawing.metrics(),
            **self.curriculum.metrics(),
            **self._state.journal.metrics(),
        }
        self._state.write_row("buffer", row)


def _number(message: Message) -> int:
    """Of a request, by which its answer is known and a repetition told; 0: it has none."""
    return get_int(message, "request") if "request" in message.values else 0


def _numbered(message: Message, number: object) -> Message:
    """An answer that names its request."""
    if not number or type(number) is not int:
        return message
    return Message(message.kind, {**message.values, "request": number}, message.arrays)


def _leases(message: Message) -> set[tuple[int, int]]:
    """Leases that an actor says it works on."""
    pairs = get(message, "leases", list) if "leases" in message.values else []
    if not all(isinstance(p, list) and [type(x) for x in p] == [int, int] for p in pairs):
        raise WireError(f"hello.leases must hold pairs of integers, got {pairs!r}")
    return {(rollout_id, epoch) for rollout_id, epoch in pairs}
