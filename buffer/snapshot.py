"""A buffer's whole state as a few records, from which a restart goes on without what came before.

    snapshot         numbers, schedule, and the state of curriculum and drawing
    kept_rollout     one each, with its tokens: members of open groups, and of items that may train
    kept_group       one for each open group
    kept_item        one for each closed group (or member) that is in the table or drawn
    snapshot_end     before it, the stream is not whole

States are plain values; arrays in them become arrays of the message, as bytes, and are named where
they stood.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.errors import JournalError
from async_r1.tasks.protocol import Prompt
from async_r1.types import FinishReason, Segment, SegmentStatus, VersionSpan
from async_r1.wire import Message
from buffer.core import BufferCore, Shipped
from buffer.groups import ClosedGroup, Group
from buffer.rollout import Rollout, RolloutState

KINDS = ("snapshot", "kept_rollout", "kept_group", "kept_item", "snapshot_end")
_DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "b1")
_GROUP = ("group_id", "opened_version", "opened_at", "prompt_index", "size", "overdue")
_ITEM = (
    "group_id", "oldest_version", "newest_version", "num_expired", "zero_variance", "too_few",
    "screened_out", "overdue", "prompt_index", "success_rate",
)  # fmt: skip
_ROLLOUT = (
    "rollout_id", "group_id", "member", "opened_version", "holder", "lease_epoch",
    "leased_version", "suspended_version", "rewards", "text", "error", "swaps",
)  # fmt: skip


def snapshot(core: BufferCore) -> Iterator[Message]:
    """Records that make the same state in a core that has seen nothing."""
    state, evals = core.state, core.state.evals
    book, items = state.book, state.drawing.items()
    running, shipped = evals.running, core.shipped
    arrays: list[NDArray[np.uint8]] = []
    values = {
        "version": state.version,
        "step": state.step,
        "now": state.now,
        "finishing": state.finishing,
        "next_ids": [book.next_group, book.next_rollout],
        "evals": [evals.due, evals.last],
        "eval_rollouts": [r.rollout_id for r in running.rollouts] if running else None,
        "tokens_received": state.stats.tokens_received,
        "shipped": [shipped.peer, shipped.number, shipped.batch_id] if shipped else None,
        "curriculum": _packed(state.curriculum.state_dict(), arrays),
        "drawing": _packed(state.drawing.state_dict(), arrays),
        "selection": _packed(state.stats.selection.state_dict(), arrays),
    }
    yield Message("snapshot", values, {"data": _joined(arrays)})
    rollouts = {r.rollout_id: (r, item.prompt_index) for item in items.values()
                for r in item.rollouts}  # fmt: skip
    for group in book.groups.values():
        rollouts.update({r.rollout_id: (r, group.prompt_index) for r in group.members})
    for rollout, prompt_index in rollouts.values():
        yield _rollout_record(rollout, prompt_index)
    for group in book.groups.values():
        members = [rollout.rollout_id for rollout in group.members]
        fields = {name: getattr(group, name) for name in _GROUP} | _named(group.prompt)
        yield Message("kept_group", {**fields, "members": members})
    for item_id, item in items.items():
        fields = {name: getattr(item, name) for name in _ITEM} | _named(item.prompt)
        members = [rollout.rollout_id for rollout in item.rollouts]
        numbers = [item.rewards, item.advantages, item.task_rewards]
        yield Message(
            "kept_item",
            {"item_id": item_id, **fields, "rollouts": members},
            dict(zip(("rewards", "advantages", "task_rewards"), numbers, strict=True)),
        )
    yield Message("snapshot_end")


class SnapshotReader:
    """Takes the records of a snapshot in their order."""

    def __init__(self, core: BufferCore) -> None:
        self._core = core
        self._rollouts: dict[int, Rollout] = {}
        self._items: dict[int, ClosedGroup] = {}
        self._head: Message | None = None

    def apply(self, message: Message) -> None:
        """
        Raises:
            JournalError: the snapshot has no head.
        """
        if message.kind == "snapshot":
            self._head = message
        elif message.kind == "kept_rollout":
            self._keep_rollout(message)
        elif message.kind == "kept_group":
            self._keep_group(message)
        elif message.kind == "kept_item":
            self._keep_item(message)
        else:
            self._end()

    def _prompt(self, index: int) -> Any:
        return self._core.state.prompts[index]

    def _keep_rollout(self, message: Message) -> None:
        values, arrays = message.values, message.arrays
        book = self._core.state.book
        rollout = Rollout(
            prompt=self._prompt(values["prompt_index"]),
            **{name: values[name] for name in _ROLLOUT},
        )
        rollout.state = RolloutState(values["state"])
        reason = values["finish_reason"]
        rollout.finish_reason = FinishReason(reason) if reason else None
        rollout.lease_starts = [(offset, holder) for offset, holder in values["lease_starts"]]
        if "prompt_ids" in arrays:
            rollout.prompt_ids = np.array(arrays["prompt_ids"])
        rollout.load(
            Segment(
                rollout_id=rollout.rollout_id,
                lease_epoch=rollout.lease_epoch,
                token_offset=0,
                prefix_hash=0,
                status=SegmentStatus.STREAMING,
                finish_reason=None,
                spans=tuple(VersionSpan(version, count) for version, count in values["spans"]),
                prefill_version=0,
                swaps=(),
                token_ids=np.array(arrays["token_ids"]),
                behavior_logprobs=np.array(arrays["logprobs"]),
                mask=np.array(arrays["mask"]) if "mask" in arrays else None,
                prompt_ids=None,
            ),
            values["accepted"],
        )
        rollout.on_lease, rollout.on_free = book.on_lease, book.on_free
        self._rollouts[rollout.rollout_id] = rollout

    def _keep_group(self, message: Message) -> None:
        values = message.values
        group = Group(
            prompt=self._prompt(values["prompt_index"]),
            members=[self._rollouts[i] for i in values["members"]],
            **{name: values[name] for name in _GROUP},
        )
        self._core.state.book.take(group)

    def _keep_item(self, message: Message) -> None:
        values = message.values
        self._items[values["item_id"]] = ClosedGroup(
            prompt=self._prompt(values["prompt_index"]),
            rollouts=[self._rollouts[i] for i in values["rollouts"]],
            rewards=np.array(message.arrays["rewards"]),
            advantages=np.array(message.arrays["advantages"]),
            task_rewards=np.array(message.arrays["task_rewards"]),
            **{name: values[name] for name in _ITEM},
        )

    def _end(self) -> None:
        if self._head is None:
            raise JournalError("a snapshot in the journal has no beginning")
        state, values = self._core.state, self._head.values
        data = self._head.arrays["data"]
        state.version, state.step = values["version"], values["step"]
        state.now, state.finishing = values["now"], values["finishing"]
        state.curriculum.load_state_dict(_unpacked(values["curriculum"], data))
        state.drawing.load_state_dict(_unpacked(values["drawing"], data), self._items)
        state.stats.selection.load_state_dict(_unpacked(values["selection"], data))
        state.stats.tokens_received = values["tokens_received"]
        self._core.shipped = Shipped(*values["shipped"]) if values["shipped"] else None
        state.evals.due, state.evals.last = values["evals"]
        if values["eval_rollouts"]:
            state.book.next_rollout = values["eval_rollouts"][0]
            self._core.actor_side.open_eval()
        state.book.next_group, state.book.next_rollout = values["next_ids"]


def _named(prompt: Prompt) -> dict[str, Any]:
    """For a person who reads it: `prompt_index` is enough for a restart."""
    return {"prompt_id": prompt.prompt_id, "level": prompt.level}


def _rollout_record(rollout: Rollout, prompt_index: int) -> Message:
    values = {name: getattr(rollout, name) for name in _ROLLOUT}
    values["state"] = rollout.state.value
    values["finish_reason"] = rollout.finish_reason.value if rollout.finish_reason else ""
    values["lease_starts"] = [list(start) for start in rollout.lease_starts]
    values["prompt_index"] = prompt_index
    values["spans"], values["accepted"] = rollout.spans, rollout.accepted
    arrays: dict[str, NDArray[Any]] = {"token_ids": rollout.token_ids, "logprobs": rollout.logprobs}
    if not rollout.mask.all():
        arrays["mask"] = rollout.mask
    if rollout.prompt_ids is not None:
        arrays["prompt_ids"] = rollout.prompt_ids
    return Message("kept_rollout", values, arrays)


def _packed(value: Any, arrays: list[NDArray[np.uint8]]) -> Any:
    """A state without its arrays: each is `{"array": [first byte, dtype, shape]}` in its place."""
    if isinstance(value, np.ndarray):
        name = value.dtype.newbyteorder("<").str.lstrip("<|")
        assert name in _DTYPES, value.dtype
        start = sum(len(array) for array in arrays)
        arrays.append(np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8))
        return {"array": [start, name, list(value.shape)]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {"pairs": [[key, _packed(entry, arrays)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(entry, arrays) for entry in value]
    return value


def _unpacked(value: Any, data: NDArray[np.uint8]) -> Any:
    if isinstance(value, list):
        return [_unpacked(entry, data) for entry in value]
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {key: _unpacked(entry, data) for key, entry in value["pairs"]}
    start, name, shape = value["array"]
    dtype = np.dtype("bool" if name == "b1" else f"<{name}" if name[1] != "1" else name)
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data[start : start + size].tobytes(), dtype).reshape(shape).copy()


def _joined(arrays: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate([np.zeros(0, np.uint8), *arrays])
