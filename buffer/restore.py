"""A buffer from its journal: what happened happens again, and nothing is chosen anew.

Every record goes through the policy objects that wrote it, so that afterwards they are what they
were. Where damage has swallowed a record, what it was about goes on from what is left: a rollout
from its last whole prefix, under a lease that was never given out.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from async_r1.errors import JournalError, ProtocolError, WireError
from async_r1.fields import get
from async_r1.journal_format import Record
from async_r1.messages import read_score
from async_r1.segment_messages import read_segment
from async_r1.wire import Message
from buffer.core import BufferCore, Shipped
from buffer.rollout import Rollout, RolloutState, Verdict
from buffer.snapshot import KINDS, SnapshotReader


class Replay:
    """Applies records to a core that has seen nothing yet."""

    def __init__(self, core: BufferCore) -> None:
        self.core, self._state, self._actors = core, core.state, core.actor_side
        self._snapshot = SnapshotReader(core)
        self.num_records = 0
        self.lost: Counter[str] = Counter()  # records by kind that did not fit what came before
        self._handlers: dict[str, Callable[[Record, Message], None]] = {
            "group_opened": self._group_opened,
            "leases": self._leases,
            "released": self._released,
            "segment": self._segment,
            "score": self._score,
            "group_closed": self._group_closed,
            "group_grown": self._group_grown,
            "batch_request": self._batch_request,
            "draw": self._draw,
            "draw_refunded": self._draw_refunded,
            "step_done": self._step_done,
            "eval_opened": self._eval_opened,
            "eval_done": lambda record, message: self._actors.end_eval(),
            "finish": lambda record, message: self.core.finish(),
            "restarted": self._restarted,
            **dict.fromkeys(KINDS, lambda record, message: self._snapshot.apply(message)),
        }

    def run(self, records: Iterable[Record]) -> None:
        """
        Raises:
            JournalError: a record of a kind unknown here, or one that is not what its kind asks.
        """
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> None:
        message = record.message
        if message.kind not in self._handlers:
            raise JournalError(f"the journal has a {message.kind!r} at byte {record.offset}")
        now = message.values.get("now")
        if now is not None:
            self._state.now = max(self._state.now, float(now))
        try:
            self._handlers[message.kind](record, message)
        except (WireError, KeyError, TypeError) as error:
            raise JournalError(
                f"the {message.kind} at byte {record.offset} of the journal cannot be read: {error}"
            ) from error
        self._state.take_outbox()
        self._state.stats.selection.take_left()
        self.num_records += 1

    def restart(self, *, damaged: bool) -> None:
        """The buffer serves again, from now on: what it said last may have reached nobody.

        Args:
            damaged: whether records may be missing, which may have given out leases.

        Raises:
            JournalError: the record of this cannot be written.
        """
        self._state.log("restarted", now=self._state.now, damaged=damaged)
        self._restart(damaged)
        self._state.journal.flush()

    def _restarted(self, record: Record, message: Message) -> None:
        self._restart(get(message, "damaged", bool))

    def _restart(self, damaged: bool) -> None:
        state, evals = self._state, self._state.evals
        if evals.running is not None:
            self._actors.end_eval()
            if evals.due is None:
                evals.due, evals.last = evals.last, None
        state.awaited.clear()
        for rollout in state.book.rollouts.values():
            if rollout.holder is not None:
                rollout.restored = True
                state.awaited[rollout.holder] = state.now
            elif damaged:
                rollout.lease_epoch += 1  # it may have been given out in a record that is lost

    def _group_opened(self, record: Record, message: Message) -> None:
        state, values = self._state, message.values
        group_id, rollout_ids = get(message, "group_id", int), get(message, "rollout_ids", list)
        index, version = get(message, "prompt_index", int), get(message, "version", int)
        prompt = state.prompts[index]
        if prompt.prompt_id != values["prompt_id"]:
            raise JournalError(
                f"training prompt {index} is {prompt.prompt_id!r}, but was "
                f"{values['prompt_id']!r} when the journal was written: the task has changed"
            )
        state.drawing.admission.opened()
        state.curriculum.opened(index, version)
        state.book.skip_to(group_id=group_id, rollout_id=rollout_ids[0])
        group = state.book.open_group(prompt, version, state.now, index)
        assert [rollout.rollout_id for rollout in group.members] == rollout_ids, group.group_id

    def _leases(self, record: Record, message: Message) -> None:
        for rollout_id, epoch in get(message, "leases", list):
            self._lease(rollout_id, epoch, record.peer, get(message, "version", int))

    def _lease(self, rollout_id: int, epoch: int, holder: bytes, version: int) -> None:
        state = self._state
        state.book.skip_to(rollout_id=rollout_id + 1)
        rollout = state.book.rollouts.get(rollout_id)
        if rollout is None or not (rollout.can_lease or rollout.holder is not None):
            self._count("leases")
            return
        if not rollout.can_lease:  # that it was released is lost
            self._count("released")
            rollout.release(state.version)
        rollout.lease_epoch = epoch - 1
        state.stats.counts["leases/granted"] += 1
        rollout.lease(
            holder, version=version, seed=0, token_budget=0, max_new_tokens=0, temperature=1.0
        )

    def _released(self, record: Record, message: Message) -> None:
        rollout = self._state.book.rollouts.get(get(message, "rollout_id", int))
        if rollout is None or rollout.holder is None:
            self._count("released")
            return
        rollout.release(self._state.version)

    def _segment(self, record: Record, message: Message) -> None:
        state, segment = self._state, read_segment(message)
        rollout = state.book.rollouts.get(segment.rollout_id)
        if rollout is not None and rollout.lease_epoch < segment.lease_epoch:
            self._lease(segment.rollout_id, segment.lease_epoch, record.peer, state.version)
        try:
            accepted = (
                rollout is not None
                and rollout.accept(segment, record.peer, state.version) is Verdict.ACCEPTED
            )
        except ProtocolError:
            accepted = False
        if not accepted:
            self._count("segment")
            self._fall_back(rollout)
            return
        state.stats.tokens_received += len(segment.token_ids)

    def _score(self, record: Record, message: Message) -> None:
        state, score = self._state, read_score(message)
        rollout = state.book.rollouts.get(score.rollout_id)
        try:
            accepted = (
                rollout is not None
                and rollout.score(score.lease_epoch, score.rewards, score.text, score.error)
                is Verdict.ACCEPTED
            )
        except ProtocolError:
            accepted = False
        if not accepted:
            self._count("score")
            self._fall_back(rollout)
        elif score.error and rollout is not None:
            state.stats.reward_failed(rollout)

    def _fall_back(self, rollout: Rollout | None) -> None:
        """A rollout lost something: whoever gets it next goes on from what is there."""
        if rollout is not None and rollout.state is RolloutState.LEASED:
            rollout.release(self._state.version)

    def _group_closed(self, record: Record, message: Message) -> None:
        group = self._state.book.groups.get(get(message, "group_id", int))
        if group is None:
            self._count("group_closed")
            return
        overdue = get(message, "overdue", bool)
        if not (group.scored or group.num_failed or overdue):  # all that it closed with is lost
            self._count("group_closed")
            overdue = True
        self._actors.close_group(group, overdue=overdue)

    def _group_grown(self, record: Record, message: Message) -> None:
        group = self._state.book.groups.get(get(message, "group_id", int))
        if group is None:
            self._count("group_grown")
            return
        self._state.book.grow(group)

    def _batch_request(self, record: Record, message: Message) -> None:
        self._state.drawing.requested(get(message, "policy_version", int))

    def _draw(self, record: Record, message: Message) -> None:
        drawing, arrays = self._state.drawing, message.arrays
        pairs = zip(arrays["item_ids"].tolist(), arrays["inclusion_probs"].tolist(), strict=True)
        here = [pair for pair in pairs if pair[0] in drawing.table]
        if len(here) < len(arrays["item_ids"]):
            self._count("draw")
        item_ids, probs = [item for item, _ in here], [prob for _, prob in here]
        batch_id = get(message, "batch_id", int)
        drawing.apply(batch_id, get(message, "version", int), item_ids, probs)
        self.core.shipped = Shipped(record.peer, get(message, "request", int), batch_id)
        self._state.stats.take_failed()

    def _draw_refunded(self, record: Record, message: Message) -> None:
        try:
            self._state.drawing.refund(get(message, "batch_id", int))
        except KeyError:
            self._count("draw_refunded")

    def _step_done(self, record: Record, message: Message) -> None:
        version = self._state.version
        self.core.trained(message)
        if self._state.version > version:
            self._state.stats.take_row()
            self._state.stats.selection.skip_row()

    def _eval_opened(self, record: Record, message: Message) -> None:
        state, rollout_ids = self._state, get(message, "rollout_ids", list)
        state.evals.last, state.evals.due = get(message, "version", int), None
        state.book.skip_to(rollout_id=rollout_ids[0] if rollout_ids else 0)
        self._actors.open_eval()

    def _count(self, kind: str) -> None:
        self.lost[kind] += 1
