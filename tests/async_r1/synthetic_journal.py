"""A small journal written by hand: two groups of two, one of which trains."""

from pathlib import Path
from typing import Any

import numpy as np

from async_r1.journal_format import record_parts
from async_r1.wire import Message, encode

A, B = b"actor_000/11", b"actor_001/12"


def segment(rollout_id: int, epoch: int, offset: int, spans: list[list[int]], **values: Any) -> Any:
    count = sum(number for _, number in spans)
    arrays = {
        "token_ids": np.arange(offset, offset + count, dtype=np.int32),
        "behavior_logprobs": np.zeros(count, np.float32),
        "prompt_ids": np.asarray([1, 2, 3], np.int32),
    }
    known = {"rollout_id": rollout_id, "lease_epoch": epoch, "token_offset": offset}
    status = {"status": "streaming", "finish_reason": ""}
    return Message("segment", {**known, "spans": spans, **status, **values}, arrays)


def score(rollout_id: int, epoch: int, task: float, text: str, error: str = "") -> Message:
    rewards = {} if error else {"task": task, "total": task + 0.1}
    values = {"rollout_id": rollout_id, "lease_epoch": epoch, "rewards": rewards, "text": text}
    return Message("score", values | ({"error": error} if error else {}))


def draw(batch_id: int, version: int, inclusion_prob: float) -> Message:
    """Of group 0."""
    arrays = {
        "item_ids": np.asarray([0], np.int32),
        "inclusion_probs": np.asarray([inclusion_prob], np.float32),
        "priorities": np.asarray([0.5], np.float32),
    }
    values = {"batch_id": batch_id, "version": version, "rollout_ids": [[0, 1]], "left": {}}
    return Message("draw", values, arrays)


STOP = {"status": "finished", "finish_reason": "stop"}
MESSAGES: list[tuple[bytes, Message]] = [
    (b"", Message("group_opened", {"group_id": 0, "prompt_id": "train/7", "prompt_index": 7,
                                   "level": 2, "rollout_ids": [0, 1], "version": 0})),
    (A, Message("leases", {"leases": [[0, 1], [1, 1]], "version": 0})),
    (b"", Message("group_opened", {"group_id": 1, "prompt_id": "train/9", "prompt_index": 9,
                                   "level": 3, "rollout_ids": [2, 3], "version": 0})),
    (A, segment(0, 1, 0, [[0, 4]])),
    (A, segment(0, 1, 4, [[0, 1], [1, 2]], status="suspended")),
    (A, segment(1, 1, 0, [[0, 3]], **STOP)),
    (A, score(1, 1, 0.0, "wrong")),
    (B, Message("leases", {"leases": [[0, 2], [2, 1]], "version": 1})),
    (B, segment(0, 2, 7, [[1, 2], [2, 1]], **STOP)),
    (B, score(0, 2, 1.0, "so it is 8")),
    (b"", Message("group_closed", {"group_id": 0})),
    (B, segment(2, 1, 0, [[1, 5]])),
    (b"", Message("released", {"rollout_id": 2, "lease_epoch": 1})),
    (b"", draw(1, 3, 0.25)),
    (b"", Message("draw_refunded", {"batch_id": 1})),
    (b"", draw(2, 5, 0.75)),
    (b"", Message("step_done", {"batch_id": 2, "step": 1, "policy_version": 6,
                                "trained_tokens": 11})),
]  # fmt: skip


def write_journal(directory: Path) -> list[int]:
    """Write it into one file; returns the offset after each record."""
    directory.mkdir(parents=True, exist_ok=True)
    records = [b"".join(record_parts(encode(message), peer)) for peer, message in MESSAGES]
    (directory / f"{0:020d}.log").write_bytes(b"".join(records))
    return np.cumsum([len(record) for record in records]).tolist()
