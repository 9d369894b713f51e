"""The buffer towards its actors: leases out; segments and scores in; groups closed."""

import logging
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from async_r1.channels import peer_name
from async_r1.errors import ProtocolError, Refusal
from async_r1.failpoints import failpoint
from async_r1.fields import get_int
from async_r1.messages import read_score
from async_r1.segment_messages import read_segment
from async_r1.types import LeaseKind, SegmentStatus
from async_r1.wire import Message
from buffer.curriculum import outcome_of
from buffer.evals import Evaluation
from buffer.groups import ClosedGroup, ClosePolicy, Group, close
from buffer.rollout import Rollout, RolloutState, Verdict
from buffer.state import BufferState

log = logging.getLogger("buffer")

MAX_FREE_SLOTS = 65_536  # that an actor may have: no message may lease without end

Leases = Set[tuple[int, int]]  # rollout_id, lease_epoch


class ActorSide:
    """What actors may say, and what follows from it."""

    def __init__(self, state: BufferState) -> None:
        self._state = state
        buffer = state.config.buffer
        self._close_policy = ClosePolicy(
            buffer.min_rollouts, buffer.group_deadline_s, buffer.group_deadline_versions
        )
        self.handlers: dict[str, Callable[[bytes, Message], None]] = {
            "lease_request": self._on_lease_request,
            "segment": self._on_segment,
            "score": self._on_score,
            "heartbeat": self._on_heartbeat,
            "bye": self._on_bye,
        }

    def joined(self, peer: bytes, index: int, leases: Leases) -> None:
        """An actor said hello, and which leases it works on: others of its never reached it."""
        state = self._state
        state.granting.joined(peer, index, state.now)
        state.awaited.pop(peer, None)
        self._release(peer, besides=leases)

    def release_silent(self) -> None:
        """Actors unheard of for too long lose their leases; after a restart, those that do not
        come back, too."""
        state = self._state
        limit = state.config.actors.dead_after_s
        missing = [peer for peer, since in state.awaited.items() if state.now - since > limit]
        for actor in missing:
            del state.awaited[actor]
        for actor in [*state.granting.silent(state.now), *missing]:
            log.warning("%s was silent too long: its leases are suspended", peer_name(actor))
            self._release(actor)

    def grant(self) -> None:
        """Send the leases that are possible now."""
        state = self._state
        for peer, message in state.granting.grant(
            state.version, self._open_group, state.eval_first
        ):
            rows = message.values["leases"]
            leases = [[row["rollout_id"], row["lease_epoch"]] for row in rows]
            state.log("leases", peer=peer, leases=leases, version=state.version)
            state.outbox.append((peer, message))

    def close_due_groups(self) -> None:
        """Close the groups that are past a deadline; the oldest are past it first."""
        state = self._state
        for group_id, group in list(state.book.groups.items()):
            if not self._close_policy.is_due(group, version=state.version, now=state.now):
                break
            self._maybe_close(group_id)

    def notice_overdue(self) -> None:
        """Live groups of which a token is too old for any draw to come are counted; under `drop`,
        which would drop them at the draw, they leave now, and their slots are free."""
        state = self._state
        earliest = state.drawing.earliest_turn(state.version)
        live = list(state.book.groups.values())
        for group in state.drawing.staleness.overdue_in_flight(live, earliest):
            state.stats.counts["staleness/in_flight_overdue"] += not group.overdue
            group.overdue = True
            if state.config.staleness.overdue == "drop":
                self._leave(group, overdue=True)

    def revoke_all(self) -> None:
        """The run is over: what is in flight will not train."""
        book = self._state.book
        for group_id, group in list(book.groups.items()):
            self._revoke(group)
            for rollout in group.members:
                rollout.expire()
            book.close_group(group_id)
            self._state.curriculum.abandoned(group.prompt_index)

    def start_eval(self) -> None:
        """Lease the held-out prompts, if a measurement is due and none runs."""
        schedule = self._state.evals
        if schedule.due is None or schedule.running is not None:
            return
        schedule.last, schedule.due = schedule.due, None
        self.open_eval()
        assert schedule.running is not None
        rollout_ids = [rollout.rollout_id for rollout in schedule.running.rollouts]
        now = self._state.now
        self._state.log("eval_opened", version=schedule.last, rollout_ids=rollout_ids, now=now)

    def open_eval(self) -> None:
        schedule = self._state.evals
        rollouts = self._state.book.open_eval(schedule.prompts)
        schedule.running = Evaluation(rollouts, self._state.now)

    def _on_lease_request(self, peer: bytes, message: Message) -> None:
        free = get_int(message, "free_slots", -MAX_FREE_SLOTS, MAX_FREE_SLOTS)
        received = get_int(message, "leases_received")
        granting = self._state.granting
        if peer not in granting.actors:  # forgotten after a silence, or this is a new buffer
            self._state.send(peer, "rejoin")
            return
        granting.requested(peer, free, received)

    def _on_segment(self, peer: bytes, message: Message) -> None:
        state = self._state
        segment = read_segment(message, state.vocab_size)
        if self._must_rejoin(peer):
            return
        rollout = state.book.rollouts.get(segment.rollout_id)
        limit = state.config.task.max_new_tokens
        verdict = Verdict.REVOKED
        if rollout is not None:
            try:
                verdict = rollout.accept(segment, peer, state.version, limit)
            except ProtocolError:
                if not rollout.restored:
                    raise
                log.warning("rollout %d goes on from what the journal kept", segment.rollout_id)
                self._release_one(rollout)
        if verdict is Verdict.REVOKED:
            self._refuse_lease(peer, segment.rollout_id, segment.lease_epoch)
            return
        if verdict is Verdict.ACCEPTED:
            assert rollout is not None
            state.stats.tokens_received += len(segment.token_ids)
            state.stats.counts["leases/suspended"] += segment.status is SegmentStatus.SUSPENDED
            if rollout.kind is not LeaseKind.EVAL:
                state.journal.append(message, frames=message.frames, peer=peer)
        else:
            state.stats.counts["wire/duplicates"] += 1
        state.acknowledge(peer, segment.rollout_id, segment.lease_epoch, segment.token_offset)

    def _refuse_lease(self, peer: bytes, rollout_id: int, lease_epoch: int) -> None:
        """Answer a segment whose lease has ended, or never was: that one is a refusal by name, but
        to the actor it is the same, and it goes on without the rollout."""
        state = self._state
        values: dict[str, Any] = {"rollout_id": rollout_id, "lease_epoch": lease_epoch}
        if not state.book.was_leased(rollout_id, lease_epoch):
            values["reason"] = Refusal.UNKNOWN_LEASE.value
            state.refused(
                peer, Refusal.UNKNOWN_LEASE, f"no lease {lease_epoch} of rollout {rollout_id}"
            )
        state.stats.counts["leases/revoked"] += 1
        state.send(peer, "revoked", **values)

    def _must_rejoin(self, peer: bytes) -> bool:
        """After a restart, what an actor sends may come without what it had sent before: it has to
        say hello first, and then repeats all that was not acknowledged."""
        if peer not in self._state.awaited:
            return False
        self._state.send(peer, "rejoin")
        return True

    def _on_score(self, peer: bytes, message: Message) -> None:
        score = read_score(message)
        state = self._state
        if self._must_rejoin(peer):
            return
        rollout = state.book.rollouts.get(score.rollout_id)
        key = {"rollout_id": score.rollout_id, "lease_epoch": score.lease_epoch}
        if rollout is None:
            state.send(peer, "revoked", **key)
            return
        verdict = rollout.score(score.lease_epoch, score.rewards, score.text, score.error)
        state.send(peer, "revoked" if verdict is Verdict.REVOKED else "scored", **key)
        if verdict is not Verdict.ACCEPTED:
            return
        if score.error:
            state.stats.reward_failed(rollout)
        if rollout.kind is LeaseKind.EVAL:
            self._eval_scored()
        else:
            state.journal.append(message, frames=message.frames, peer=peer)
            self._maybe_close(rollout.group_id)

    def _on_heartbeat(self, peer: bytes, message: Message) -> None:
        """Being seen is all there is to it, unless this is an actor that nobody remembers: with
        nothing to do, it would not send anything else."""
        if peer not in self._state.granting.actors and peer not in self._state.learners:
            self._state.send(peer, "rejoin")

    def _on_bye(self, peer: bytes, message: Message) -> None:
        self._release(peer)
        self._state.granting.left(peer)

    def _release(self, actor: bytes, besides: Leases = frozenset()) -> None:
        for rollout in self._state.book.held_by(actor):
            if (rollout.rollout_id, rollout.lease_epoch) not in besides:
                self._release_one(rollout)

    def _release_one(self, rollout: Rollout) -> None:
        state = self._state
        state.stats.counts["leases/suspended"] += rollout.state is RolloutState.LEASED
        rollout.release(state.version)
        state.log("released", rollout_id=rollout.rollout_id, lease_epoch=rollout.lease_epoch)

    def _maybe_close(self, group_id: int) -> None:
        state = self._state
        group = state.book.groups.get(group_id)
        if group is None:
            return
        if self._close_policy.may_grow(group, version=state.version, now=state.now):
            self._grow(group)
            return
        if not self._close_policy.may_close(group, version=state.version, now=state.now):
            return
        self._leave(group)

    def _leave(self, group: Group, *, overdue: bool = False) -> None:
        """Close a group; whoever still samples for it hears so at once."""
        self._revoke(group)
        self.close_group(group, overdue=overdue)
        failpoint("group_close")
        left = self._state.stats.selection.take_left()
        self._state.log("group_closed", group_id=group.group_id, overdue=overdue, left=left)

    def close_group(self, group: Group, *, overdue: bool) -> None:
        """Close a group now, whoever is late."""
        state = self._state
        state.book.close_group(group.group_id)
        closed = self._close(group, overdue)
        state.stats.selection.closed(group, closed)
        if closed.rollouts and not overdue:
            state.curriculum.observe(outcome_of(closed))
        else:
            state.curriculum.abandoned(closed.prompt_index)
        state.drawing.put(closed)
        state.may_draw = True

    def _revoke(self, group: Group) -> None:
        for rollout in group.members:
            if rollout.holder is not None:
                values = {"rollout_id": rollout.rollout_id, "lease_epoch": rollout.lease_epoch}
                self._state.send(rollout.holder, "revoked", **values)

    def _grow(self, group: Group) -> None:
        added = self._state.book.grow(group)
        self._state.stats.counts["groups/grown"] += 1
        values = {
            "group_id": group.group_id,
            "rollout_ids": [rollout.rollout_id for rollout in added],
        }
        self._state.journal.append(Message("group_grown", values))

    def _close(self, group: Group, overdue: bool) -> ClosedGroup:
        state, reward = self._state, self._state.config.reward
        shuffle = length_weight = None
        if reward.shuffle:
            shuffle = np.random.default_rng([state.config.seed, 2, group.group_id])
        if reward.length:
            warm = state.version >= reward.length_warmup_versions
            length_weight = reward.length if warm else 0.0
        return close(
            group,
            shuffle,
            length_weight=length_weight,
            min_rollouts=state.config.buffer.min_rollouts,
            overdue=overdue,
        )

    def _open_group(self) -> Group | None:
        state = self._state
        if state.finishing or not state.drawing.admission.admits(state.version):
            return None
        state.drawing.admission.opened()
        index = int(state.curriculum.sample(1, state.version)[0])
        group = state.book.open_group(state.prompts[index], state.version, state.now, index)
        state.journal.append(
            Message(
                "group_opened",
                {
                    "group_id": group.group_id,
                    "prompt_id": group.prompt.prompt_id,
                    "prompt_index": index,
                    "level": group.prompt.level,
                    "rollout_ids": [rollout.rollout_id for rollout in group.members],
                    "version": group.opened_version,
                    "now": state.now,
                },
            )
        )
        return group

    def _eval_scored(self) -> None:
        state = self._state
        running = state.evals.running
        if running is not None and running.complete:
            state.write_row("eval", running.row(now=state.now, step=state.step))
            self.end_eval()
            state.log("eval_done", version=state.evals.last)

    def end_eval(self) -> None:
        """Forget the measurement that runs."""
        schedule = self._state.evals
        if schedule.running is not None:
            self._state.book.close(schedule.running.rollouts)
            schedule.running = None
