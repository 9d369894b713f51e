"""What happened in a run, from the records of its journal: groups, rollouts, leases, draws, steps.

Reads what the buffer wrote, and imports nothing of it. A journal may be torn, damaged, or in the
middle of being written: what cannot be read is listed in `problems`, and the rest is told.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from async_r1.channels import peer_name
from async_r1.errors import JournalError
from async_r1.journal_format import (
    Damage,
    Record,
    base_of,
    log_files,
    read_file,
    snapshot_files,
)
from async_r1.journal_lines import DrawLine, GroupLine, LeaseLine, RolloutLine, StepLine

_ATTEMPTS = 3


class History:
    """All that the records told."""

    def __init__(self, *, texts: bool = False) -> None:
        """`texts`: keep the completions as text, too."""
        self._texts = texts
        self.groups: dict[int, GroupLine] = {}
        self.rollouts: dict[int, RolloutLine] = {}
        self.draws: dict[int, DrawLine] = {}
        self.steps: list[StepLine] = []
        self.eval_leases: list[LeaseLine] = []
        self.kinds: Counter[str] = Counter()  # records
        self.kind_bytes: Counter[str] = Counter()
        self.problems: list[str] = []
        self.files: list[Path] = []
        self.begin = self.end = 0  # bytes in the journal
        self._eval_rollouts: set[int] = set()
        self._on: dict[str, Callable[[Mapping[str, Any], Record], None]] = {
            "group_opened": self._group_opened,
            "group_grown": self._group_grown,
            "group_closed": self._group_closed,
            "eval_opened": self._eval_opened,
            "leases": self._leases,
            "released": self._released,
            "segment": self._segment,
            "score": self._score,
            "draw": self._draw,
            "draw_refunded": self._refunded,
            "step_done": self._step_done,
            "kept_rollout": self._kept_rollout,
            "kept_group": self._kept_group,
            "kept_item": self._kept_item,
        }

    def add(self, record: Record) -> None:
        """Take a record; one that makes no sense is a problem, and changes nothing else."""
        kind, values = record.message.kind, record.message.values
        self.kinds[kind] += 1
        self.kind_bytes[kind] += record.end - record.offset
        self.end = max(self.end, record.end)
        try:
            if kind in self._on:
                self._on[kind](values, record)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"{type(error).__name__}: {error}"
            self.problems.append(f"record {kind} at byte {record.offset} makes no sense: {what}")

    def rollout(self, rollout_id: int) -> RolloutLine:
        return self.rollouts.setdefault(rollout_id, RolloutLine(rollout_id))

    def group(self, group_id: int) -> GroupLine:
        return self.groups.setdefault(group_id, GroupLine(group_id))

    def _group_opened(self, values: Mapping[str, Any], _: Record) -> None:
        group = self.group(values["group_id"])
        group.prompt_id = str(values["prompt_id"])
        group.level, group.opened_version = values.get("level"), values.get("version")
        self._add_members(group, values["rollout_ids"])

    def _group_grown(self, values: Mapping[str, Any], _: Record) -> None:
        self._add_members(self.group(values["group_id"]), values["rollout_ids"])

    def _add_members(self, group: GroupLine, rollout_ids: list[int]) -> None:
        for rollout_id in rollout_ids:
            rollout = self.rollout(rollout_id)
            rollout.group_id, rollout.member = group.group_id, len(group.rollout_ids)
            group.rollout_ids.append(rollout_id)

    def _group_closed(self, values: Mapping[str, Any], _: Record) -> None:
        group = self.group(values["group_id"])
        group.closed = True
        self._mark_left(values)

    def _mark_left(self, values: Mapping[str, Any]) -> None:
        """`left`: rollouts that left the table undrawn since the last such record, by fate."""
        for fate, rollout_ids in dict(values.get("left", {})).items():
            for rollout_id in rollout_ids:
                self.rollout(rollout_id).left = fate

    def _eval_opened(self, values: Mapping[str, Any], _: Record) -> None:
        self._eval_rollouts.update(values["rollout_ids"])

    def _leases(self, values: Mapping[str, Any], record: Record) -> None:
        for rollout_id, epoch in values["leases"]:
            if rollout_id in self._eval_rollouts:
                lease = LeaseLine(rollout_id, epoch)
                self.eval_leases.append(lease)
            else:
                rollout = self.rollout(rollout_id)
                rollout.suspended = False
                lease = rollout.lease(epoch)
            lease.holder, lease.version = peer_name(record.peer), values.get("version")

    def _released(self, values: Mapping[str, Any], _: Record) -> None:
        if values["rollout_id"] in self._eval_rollouts:
            return
        rollout = self.rollout(values["rollout_id"])
        lease = rollout.lease(values["lease_epoch"])
        lease.end = lease.end or "released"
        rollout.suspended = not rollout.finish_reason

    def _segment(self, values: Mapping[str, Any], record: Record) -> None:
        rollout = self.rollout(values["rollout_id"])
        lease = rollout.lease(values["lease_epoch"])
        offset, arrays = int(values["token_offset"]), record.message.arrays
        if offset > rollout.num_tokens:
            self.problems.append(
                f"rollout {rollout.rollout_id} lacks tokens {rollout.num_tokens} to {offset - 1}"
            )
        rollout.append(offset, [(int(version), int(count)) for version, count in values["spans"]])
        rollout.num_segments += 1
        if "prompt_ids" in arrays:
            rollout.num_prompt_tokens = len(arrays["prompt_ids"])
        if lease.token_offset is None:
            lease.token_offset = offset
            lease.holder = lease.holder or peer_name(record.peer)
        lease.num_tokens += len(arrays["token_ids"])
        lease.end = "" if values["status"] == "streaming" else values["status"]
        rollout.finish_reason = values["finish_reason"]
        rollout.suspended = values["status"] == "suspended"

    def _score(self, values: Mapping[str, Any], _: Record) -> None:
        rollout = self.rollout(values["rollout_id"])
        rollout.rewards, rollout.error = dict(values["rewards"]), values.get("error", "")
        rollout.scored = True
        if self._texts:
            rollout.text = values["text"]

    def _draw(self, values: Mapping[str, Any], record: Record) -> None:
        arrays = record.message.arrays
        item_ids = arrays["item_ids"].tolist()
        unknown = np.full(len(item_ids), None, object)
        self.draws[values["batch_id"]] = DrawLine(
            values["batch_id"],
            values["version"],
            item_ids,
            [list(rollout_ids) for rollout_ids in values["rollout_ids"]],
            arrays.get("inclusion_probs", unknown).tolist(),
            arrays.get("priorities", unknown).tolist(),
        )
        self._mark_left(values)

    def _refunded(self, values: Mapping[str, Any], _: Record) -> None:
        self.draws[values["batch_id"]].refunded = True

    def _step_done(self, values: Mapping[str, Any], _: Record) -> None:
        batch_id, step = values.get("batch_id"), values["step"]
        version, tokens = values["policy_version"], values.get("trained_tokens")
        self.steps.append(StepLine(step, version, batch_id, tokens))
        if batch_id in self.draws:
            self.draws[batch_id].step = step

    def _kept_rollout(self, values: Mapping[str, Any], record: Record) -> None:
        """Of a snapshot: what the log said before it."""
        rollout = self.rollout(values["rollout_id"])
        rollout.group_id, rollout.member = values["group_id"], values["member"]
        rollout.spans = [(int(version), int(count)) for version, count in values["spans"]]
        rollout.finish_reason = values["finish_reason"]
        rollout.rewards, rollout.error = dict(values["rewards"]), values["error"]
        rollout.scored = values["state"] in ("scored", "failed")
        rollout.suspended = values["state"] == "suspended"
        rollout.num_prompt_tokens = len(record.message.arrays.get("prompt_ids", ()))
        if self._texts:
            rollout.text = values["text"]
        if values["lease_epoch"]:  # those before it are not told apart any more
            lease = rollout.lease(values["lease_epoch"])
            offset, holder = (values["lease_starts"] or [[None, values["holder"] or b""]])[-1]
            lease.token_offset, lease.holder = offset, peer_name(holder)
            lease.version, lease.num_tokens = (
                values["leased_version"],
                rollout.num_tokens - (offset or 0),
            )
            if values["state"] != "leased":
                lease.end = "suspended" if rollout.suspended else "finished"

    def _kept_group(self, values: Mapping[str, Any], _: Record) -> None:
        group = self.group(values["group_id"])
        group.prompt_id, group.level = str(values.get("prompt_id", "")), values.get("level")
        group.opened_version = values["opened_version"]
        group.rollout_ids = list(values["members"])

    def _kept_item(self, values: Mapping[str, Any], _: Record) -> None:
        group = self.group(values["group_id"])
        group.prompt_id, group.level = str(values.get("prompt_id", "")), values.get("level")
        group.closed = True
        known = set(group.rollout_ids)
        group.rollout_ids += [i for i in values["rollouts"] if i not in known]


def read_history(directory: Path, *, texts: bool = False) -> History:
    """The history of a journal's directory, from the oldest log that is left on; from the
    snapshot before it, if there are older ones no more.

    Raises:
        JournalError: there is no journal, or it is gone whenever one looks.
    """
    for _ in range(_ATTEMPTS):
        history = History(texts=texts)
        try:
            for record in _records(directory, history):
                history.add(record)
            return history
        except FileNotFoundError:  # a live run compacted it meanwhile
            continue
    raise JournalError(f"{directory} is compacted faster than it can be read")


def _records(directory: Path, history: History) -> Iterator[Record]:
    logs, snapshots = log_files(directory), snapshot_files(directory)
    if not logs and not snapshots:
        raise JournalError(f"there is no journal in {directory}")
    first = base_of(logs[0]) if logs else base_of(snapshots[-1])
    before = [path for path in snapshots if base_of(path) <= first][-1:] if first else []
    history.files, history.begin = [*before, *logs], first
    damaged: list[Damage] = []
    for path in chain(before, logs):
        try:
            yield from read_file(path, damaged.append, last=path == history.files[-1])
        except JournalError as error:  # another version's
            history.problems.append(f"{path}: {error}")
    history.problems += [str(damage) for damage in damaged]
