"""The buffer's decisions as a state machine: messages in, messages out; no socket, no clock.

    actor:   hello, lease_request -> leases;  segment -> ack | revoked;  score;  heartbeat;  bye
    learner: hello, batch_request -> batch;   step_done -> ok;  finish -> finished;  heartbeat

Every wait is a recorded request that a later event answers; `tick` only serves deadlines.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from async_r1.channels import peer_name
from async_r1.config import Config
from async_r1.errors import (
    AsyncR1Error,
    DeadlineError,
    ProtocolError,
    TrainingError,
    WireError,
)
from async_r1.messages import (
    get,
    read_score,
    read_segment,
    write_batch,
)
from async_r1.tasks.protocol import Task
from async_r1.types import LeaseKind, SegmentStatus
from async_r1.wire import Message
from buffer.curriculum import make_curriculum
from buffer.drawing import Drawing
from buffer.evals import EvalSchedule, Evaluation
from buffer.granting import Granting
from buffer.groups import ClosedGroup, ClosePolicy, close
from buffer.journal import Journal
from buffer.lease_book import LeaseBook
from buffer.rollout import RolloutState, Verdict
from buffer.stats import BufferStats

log = logging.getLogger("buffer")

MAX_ERROR_CHARS = 1000  # a bad message may be megabytes, and its error quotes it


@dataclass(frozen=True, slots=True)
class _BatchRequest:
    peer: bytes
    version: int
    since: float


@dataclass(frozen=True, slots=True)
class _FinishRequest:
    peer: bytes


class BufferCore:
    """State of the whole run as far as sampling decisions go."""

    def __init__(
        self,
        config: Config,
        task: Task,
        journal: Journal,
        *,
        write_row: Callable[[str, dict[str, Any]], None] = lambda name, row: None,
        record: Callable[[int, list[ClosedGroup]], None] = lambda step, groups: None,
    ) -> None:
        """`write_row(stream, row)` takes metric rows, `record(step, groups)` drawn groups."""
        self.config = config
        self.version = 0
        self.step = 0
        self.stats = BufferStats()
        self.book = LeaseBook(config.buffer.group_size)
        self.drawing = Drawing(config, self.stats)
        self.curriculum = make_curriculum(
            config.curriculum.name, task.prompts("train"), config.seed
        )
        self.evals = EvalSchedule(config.eval.every, list(task.prompts("eval")))
        self.evals.published(0)
        self.granting = Granting(config, self.book, self.stats)
        self.finished = False
        self.error: AsyncR1Error | None = None
        self._journal = journal
        self._write_row = write_row
        self._record = record
        self._close_policy = ClosePolicy(
            config.buffer.min_rollouts,
            config.buffer.group_deadline_s,
            config.buffer.group_deadline_versions,
        )
        self._outbox: list[tuple[bytes, Message]] = []
        self._learners: set[bytes] = set()
        self._batch_request: _BatchRequest | None = None
        self._finish_request: _FinishRequest | None = None
        self._now = 0.0
        self._row_since = 0.0
        self._handlers = {
            "hello": self._on_hello,
            "lease_request": self._on_lease_request,
            "segment": self._on_segment,
            "score": self._on_score,
            "heartbeat": self._on_heartbeat,
            "bye": self._on_bye,
            "batch_request": self._on_batch_request,
            "step_done": self._on_step_done,
            "finish": self._on_finish,
        }

    def handle(
        self, peer: bytes, message: Message | WireError, now: float
    ) -> list[tuple[bytes, Message]]:
        """React to one message, or to bytes that are none; returns the messages to send.

        A bad message is logged, counted and answered with `error`; it never raises.
        """
        self._now = now
        try:
            if isinstance(message, WireError):
                raise message
            if message.kind not in self._handlers:
                raise WireError(f"no message {message.kind!r} in this protocol")
            self.granting.saw(peer, now)
            self._handlers[message.kind](peer, message)
        except (WireError, ProtocolError) as error:
            self.stats.counts["wire/rejected"] += 1
            text = str(error)[:MAX_ERROR_CHARS]
            log.warning("rejected from %s: %s", peer_name(peer), text)
            self._send(peer, "error", error=type(error).__name__, text=text)
        self._proceed()
        return self._take_outbox()

    def tick(self, now: float) -> list[tuple[bytes, Message]]:
        """Serve deadlines; called at least once a second."""
        self._now = now
        for actor in self.granting.silent(now):
            log.warning("%s was silent too long: its leases are suspended", peer_name(actor))
            self._release(actor)
        self._close_due_groups()
        self._check_deadlines()
        self._proceed()
        return self._take_outbox()

    # -- actors ---------------------------------------------------------------------------

    def _on_hello(self, peer: bytes, message: Message) -> None:
        role = get(message, "role", str)
        if role == "actor":
            self.granting.joined(peer, get(message, "index", int), self._now)
        elif role == "learner":
            self._learners.add(peer)
        else:
            raise WireError(f"hello.role must be actor or learner, got {role!r}")
        credit = self.config.actors.credit_bytes
        self._send(peer, "welcome", policy_version=self.version, credit_bytes=credit)

    def _on_lease_request(self, peer: bytes, message: Message) -> None:
        free, received = get(message, "free_slots", int), get(message, "leases_received", int)
        if peer not in self.granting.actors:  # forgotten after a silence, or this is a new buffer
            self._send(peer, "rejoin")
            return
        self.granting.requested(peer, free, received)

    def _on_segment(self, peer: bytes, message: Message) -> None:
        segment = read_segment(message)
        rollout = self.book.rollouts.get(segment.rollout_id)
        verdict = (
            rollout.accept(segment, peer, self.version) if rollout is not None else Verdict.REVOKED
        )
        if verdict is Verdict.REVOKED:
            self.stats.counts["leases/revoked"] += 1
            self._send(
                peer, "revoked", rollout_id=segment.rollout_id, lease_epoch=segment.lease_epoch
            )
            return
        if verdict is Verdict.ACCEPTED:
            assert rollout is not None
            self.stats.tokens_received += len(segment.token_ids)
            self.stats.counts["leases/suspended"] += segment.status is SegmentStatus.SUSPENDED
            if rollout.kind is not LeaseKind.EVAL:
                values = {**message.values, "actor": peer_name(peer)}
                self._journal.append(Message("segment", values, message.arrays))
        else:
            self.stats.counts["wire/duplicates"] += 1
        self._send(
            peer,
            "ack",
            rollout_id=segment.rollout_id,
            lease_epoch=segment.lease_epoch,
            token_offset=segment.token_offset,
            num_tokens=len(segment.token_ids),
        )

    def _on_score(self, peer: bytes, message: Message) -> None:
        score = read_score(message)
        rollout = self.book.rollouts.get(score.rollout_id)
        if rollout is None:
            return
        if rollout.score(score.lease_epoch, score.rewards, score.text) is not Verdict.ACCEPTED:
            return
        if rollout.kind is LeaseKind.EVAL:
            self._eval_scored()
        else:
            self._journal.append(message)
            self._maybe_close(rollout.group_id)

    def _on_heartbeat(self, peer: bytes, message: Message) -> None:
        """Being seen is all there is to it, unless this is an actor that nobody remembers: with
        nothing to do, it would not send anything else."""
        if peer not in self.granting.actors and peer not in self._learners:
            self._send(peer, "rejoin")

    def _on_bye(self, peer: bytes, message: Message) -> None:
        self._release(peer)
        self.granting.left(peer)

    def _release(self, actor: bytes) -> None:
        for rollout in self.book.held_by(actor):
            self.stats.counts["leases/suspended"] += rollout.state is RolloutState.LEASED
            rollout.release(self.version)

    def _close_due_groups(self) -> None:
        for group_id in list(self.book.groups):
            self._maybe_close(group_id)

    def _maybe_close(self, group_id: int) -> None:
        group = self.book.groups.get(group_id)
        if group is None or not self._close_policy.may_close(
            group, version=self.version, now=self._now
        ):
            return
        self.book.close_group(group_id)
        shuffle = None
        if self.config.reward.shuffle:
            shuffle = np.random.default_rng([self.config.seed, 2, group_id])
        closed = close(group, shuffle)
        self._journal.append(Message("group_closed", {"group_id": group_id}))
        self.curriculum.observe(
            closed.prompt,
            successes=float(closed.task_rewards.sum()),
            trials=len(closed.rollouts),
            version=self.version,
        )
        self.drawing.put(closed)

    # -- learner --------------------------------------------------------------------------

    def _on_batch_request(self, peer: bytes, message: Message) -> None:
        version = get(message, "policy_version", int)
        if version < self.version:
            raise ProtocolError(f"batch_request for version {version} after {self.version}")
        self._batch_request = _BatchRequest(peer, version, self._now)

    def _on_step_done(self, peer: bytes, message: Message) -> None:
        step, version = get(message, "step", int), get(message, "policy_version", int)
        if version < self.version:
            raise ProtocolError(f"step_done for version {version} after {self.version}")
        self.step = step
        self._journal.append(Message("step_done", dict(message.values)))
        self._send(peer, "ok")
        if version > self.version:
            self.version = version
            self._version_row()
            self.evals.published(version)
            self._close_due_groups()

    def _on_finish(self, peer: bytes, message: Message) -> None:
        self._finish_request = _FinishRequest(peer)
        for group_id in list(self.book.groups):
            group = self.book.groups[group_id]
            for rollout in group.members:
                if rollout.holder is not None:
                    values = {"rollout_id": rollout.rollout_id, "lease_epoch": rollout.lease_epoch}
                    self._outbox.append((rollout.holder, Message("revoked", values)))
                rollout.expire()
            self.book.close_group(group_id)
        self.evals.published(self.version, last=True)

    # -- whatever has become possible ------------------------------------------------------

    def _proceed(self) -> None:
        self._start_eval()
        self._answer_batch_request()
        self._outbox.extend(self.granting.grant(self.version, self._open_group, self._eval_first))
        if self._finish_request is not None and self.evals.idle and not self.finished:
            self._send(self._finish_request.peer, "finished")
            self._outbox.extend((actor, Message("stop")) for actor in self.granting.actors)
            self.finished = True

    @property
    def _eval_first(self) -> bool:
        """In sync mode nothing trains while a version is measured."""
        return self.config.mode == "sync" and not self.evals.idle

    def _open_group(self) -> Any:
        if self._finish_request is not None or not self.drawing.admission.admits(self.version):
            return None
        self.drawing.admission.opened()
        group = self.book.open_group(
            self.curriculum.next_prompt(self.version), self.version, self._now
        )
        self._journal.append(
            Message(
                "group_opened",
                {
                    "group_id": group.group_id,
                    "prompt_id": group.prompt.prompt_id,
                    "rollout_ids": [rollout.rollout_id for rollout in group.members],
                },
            )
        )
        return group

    def _answer_batch_request(self) -> None:
        request = self._batch_request
        if request is None:
            return
        try:
            self.drawing.check_barren()
        except TrainingError as error:
            self._fail(request.peer, error)
            return
        if self._round_is_open:
            return
        batch = self.drawing.draw(request.version, list(self.book.groups.values()))
        if batch is None:
            return
        self._batch_request = None
        item_ids = np.unique(batch.item_ids).tolist()
        self._journal.append(
            Message("draw", {"batch_id": batch.batch_id, "version": request.version,
                             "group_ids": item_ids})
        )  # fmt: skip
        self._record(self.step + 1, self.drawing.last_drawn)
        self._outbox.append((request.peer, write_batch(batch)))

    @property
    def _round_is_open(self) -> bool:
        """In sync mode a draw waits until all groups that its version admits have closed, so that
        what it takes does not depend on timing."""
        admits = self.drawing.admission.admits(self.version)
        return self.config.mode == "sync" and (self.book.num_live > 0 or admits)

    def _start_eval(self) -> None:
        schedule = self.evals
        if schedule.due is None or schedule.running is not None:
            return
        schedule.last, schedule.due = schedule.due, None
        schedule.running = Evaluation(self.book.open_eval(schedule.prompts), self._now)

    def _eval_scored(self) -> None:
        running = self.evals.running
        if running is not None and running.complete:
            self._write_row("eval", running.row(now=self._now, step=self.step))
            self.book.close(running.rollouts)
            self.evals.running = None

    def _check_deadlines(self) -> None:
        request, limit = self._batch_request, self.config.buffer.wait_timeout_s
        if request is not None and self._now - request.since > limit:
            waits_for = self._batch_waits_for(request.version)
            text = f"no batch for version {request.version} in {limit:g} s: waits for {waits_for}"
            self._fail(request.peer, DeadlineError(f"{text}; actors: {self.granting.describe()}"))
        running, limit = self.evals.running, self.config.eval.timeout_s
        if running is not None and self._now - running.started_at > limit:
            left = sum(not rollout.rewards for rollout in running.rollouts)
            error = DeadlineError(
                f"eval of version {self.evals.last} took more than {limit:g} s: {left} of "
                f"{len(running.rollouts)} rollouts missing; actors: {self.granting.describe()}"
            )
            waiting = self._finish_request or request
            self._fail(waiting.peer if waiting is not None else None, error)

    def _batch_waits_for(self, version: int) -> str:
        live = list(self.book.groups.values())
        if self._round_is_open and not live:
            return "the eval to end" if self._eval_first else "actors to be idle"
        return self.drawing.waits_for(version, live)

    def _fail(self, peer: bytes | None, error: AsyncR1Error) -> None:
        """End, for the run cannot go on; and tell the learner if it waits for an answer."""
        self._batch_request = None
        if peer is not None:
            self._send(peer, "error", error=type(error).__name__, text=str(error))
        self.error = error

    def _version_row(self) -> None:
        elapsed = max(self._now - self._row_since, 1e-9)
        self._row_since = self._now
        row = {
            "step": self.step,
            "policy_version": self.version,
            "groups/live": self.book.num_live,
            "admission/blocked_frac": self.granting.take_blocked_s(self._now) / elapsed,
            **self.stats.take_row(),
            **self.drawing.metrics(),
            **self.curriculum.metrics(),
        }
        self._write_row("buffer", row)

    def _send(self, peer: bytes, kind: str, **values: Any) -> None:
        self._outbox.append((peer, Message(kind, values)))

    def _take_outbox(self) -> list[tuple[bytes, Message]]:
        outbox, self._outbox = self._outbox, []
        return outbox
