"""Leases, scores, batches, acknowledgements and errors to messages and back.

Each `read_*` checks types and the relations between fields, and raises `WireError` for whatever
a foreign or broken peer may send.
"""

import numpy as np

from async_r1 import errors
from async_r1.errors import AsyncR1Error, PeerError, ProtocolError, WireError
from async_r1.fields import MAX_INT32, enum, get, natural, read_array, read_ids
from async_r1.types import (
    Batch,
    FinishReason,
    Lease,
    LeaseKind,
    Score,
)
from async_r1.wire import Message

_MAX_FLOAT32 = float(np.finfo(np.float32).max)

_BATCH_ARRAYS = (
    ("prompt_ids", "i4"),
    ("prompt_lens", "i4"),
    ("token_ids", "i4"),
    ("completion_lens", "i4"),
    ("behavior_logprobs", "f4"),
    ("versions", "i4"),
    ("mask", "u1"),
    ("rewards", "f4"),
    ("advantages", "f4"),
    ("groups", "i4"),
    ("inclusion_probs", "f4"),
    ("item_ids", "i4"),
    ("rollout_ids", "i4"),
    ("levels", "i4"),
    ("truncated", "u1"),
)


def read_ack(message: Message) -> list[tuple[int, int, int]]:
    """Keys of the segments that an `ack` acknowledges: rollout id, lease epoch, token offset.

    Raises:
        WireError: they are no triples of integers.
    """
    keys = []
    for key in get(message, "segments", list):
        if type(key) is not list or len(key) != 3 or not all(type(part) is int for part in key):
            raise WireError(f"ack.segments must hold triples of integers, got {key!r}")
        keys.append((key[0], key[1], key[2]))
    return keys


def write_error(error: WireError | ProtocolError, text: str) -> Message:
    """The `error` message: what the sender of a refused message is told."""
    return Message(
        "error", {"error": type(error).__name__, "reason": error.reason.value, "text": text}
    )


def read_error(message: Message) -> AsyncR1Error:
    """The error that an `error` message names; a `PeerError` if it has no such class here."""
    name, text = get(message, "error", str), get(message, "text", str)
    cls = getattr(errors, name, None)
    if isinstance(cls, type) and issubclass(cls, AsyncR1Error):
        return cls(text)
    return PeerError(f"{name}: {text}")


def write_leases(leases: list[Lease]) -> Message:
    """The `leases` message: headers in one list, prefixes concatenated."""
    rows = [
        {
            "rollout_id": lease.rollout_id,
            "lease_epoch": lease.lease_epoch,
            "kind": lease.kind.value,
            "group_id": lease.group_id,
            "member": lease.member,
            "prompt_id": lease.prompt_id,
            "level": lease.level,
            "seed": lease.seed,
            "token_budget": lease.token_budget,
            "max_new_tokens": lease.max_new_tokens,
            "temperature": lease.temperature,
            "finish_reason": lease.finish_reason.value if lease.finish_reason else "",
            "prefix_len": len(lease.prefix_ids),
            "prefix_hash": lease.prefix_hash,
        }
        for lease in leases
    ]
    prefixes = [lease.prefix_ids for lease in leases]
    flat = np.concatenate(prefixes) if prefixes else np.zeros(0, np.int32)
    return Message("leases", {"leases": rows}, {"prefix_ids": flat.astype(np.int32)})


def read_leases(message: Message) -> list[Lease]:
    """Leases of a `leases` message.

    Raises:
        WireError: the rows or their prefixes are malformed.
    """
    flat = read_array(message, "prefix_ids", "i4")
    leases, start = [], 0
    for row in get(message, "leases", list):
        if not isinstance(row, dict):
            raise WireError(f"leases.leases must hold mappings, got {row!r}")
        entry = Message("lease", row)
        stop = start + natural(entry, "prefix_len")
        if stop > len(flat):
            raise WireError("leases.prefix_ids is shorter than its leases announce")
        finish = get(entry, "finish_reason", str)
        leases.append(
            Lease(
                rollout_id=natural(entry, "rollout_id"),
                lease_epoch=natural(entry, "lease_epoch"),
                kind=enum(entry, "kind", LeaseKind),
                group_id=get(entry, "group_id", int),
                member=natural(entry, "member"),
                prompt_id=get(entry, "prompt_id", str),
                level=get(entry, "level", int),
                seed=natural(entry, "seed"),
                token_budget=natural(entry, "token_budget"),
                max_new_tokens=natural(entry, "max_new_tokens"),
                temperature=get(entry, "temperature", float),
                finish_reason=enum(entry, "finish_reason", FinishReason) if finish else None,
                prefix_ids=flat[start:stop],
                prefix_hash=natural(entry, "prefix_hash"),
            )
        )
        start = stop
    if start != len(flat):
        raise WireError("leases.prefix_ids is longer than its leases announce")
    return leases


def write_score(score: Score) -> Message:
    """The `score` message."""
    values = {
        "rollout_id": score.rollout_id,
        "lease_epoch": score.lease_epoch,
        "rewards": score.rewards,
        "text": score.text,
    }
    if score.error:
        values["error"] = score.error
    return Message("score", values)


def read_score(message: Message) -> Score:
    """Score of a `score` message.

    Raises:
        WireError: a reward is absent, not a number, or not finite as a float32; or there are
            rewards in spite of an error.
    """
    rewards = get(message, "rewards", dict)
    error = get(message, "error", str) if "error" in message.values else ""
    if error and rewards:
        raise WireError(f"score.rewards must be empty beside an error, got {list(rewards)}")
    for name in () if error else ("task", "total"):
        if name not in rewards:
            raise WireError(f"score.rewards must hold {name!r}, got {list(rewards)}")
    for name, value in rewards.items():
        if type(value) not in (int, float) or not abs(value) <= _MAX_FLOAT32:
            raise WireError(f"score.rewards.{name} must be a finite number, got {value!r}")
    return Score(
        rollout_id=natural(message, "rollout_id"),
        lease_epoch=natural(message, "lease_epoch"),
        rewards={name: float(value) for name, value in rewards.items()},
        text=get(message, "text", str),
        error=error,
    )


def write_batch(batch: Batch) -> Message:
    """The `batch` message."""
    values = {
        "batch_id": batch.batch_id,
        "policy_version": batch.policy_version,
        "info": batch.info,
        "num_items": batch.num_items,
        "beta": batch.beta,
    }
    return Message("batch", values, {name: getattr(batch, name) for name, _ in _BATCH_ARRAYS})


def read_batch(message: Message) -> Batch:
    """Batch of a `batch` message.

    Raises:
        WireError: an array is absent or its length contradicts the others.
    """
    arrays = {name: read_array(message, name, dtype) for name, dtype in _BATCH_ARRAYS}
    for name in ("prompt_lens", "completion_lens"):
        if (arrays[name] < 0).any():
            raise WireError(f"batch.{name} must be >= 0")
    num_rollouts = len(arrays["completion_lens"])
    num_tokens = int(arrays["completion_lens"].sum())
    per_token = ("token_ids", "behavior_logprobs", "versions", "mask")
    for name, array in arrays.items():
        expected = num_tokens if name in per_token else num_rollouts
        if name == "prompt_ids":
            expected = int(arrays["prompt_lens"].sum())
        if len(array) != expected:
            raise WireError(f"batch.{name} must have {expected} elements, got {len(array)}")
    beta = get(message, "beta", float)
    if not 0 <= beta <= 1 or (beta and not (arrays["inclusion_probs"] > 0).all()):
        raise WireError(f"batch.beta={beta!r} must be in [0, 1], inclusion_probs above 0")
    return Batch(
        num_items=natural(message, "num_items"),
        beta=beta,
        batch_id=natural(message, "batch_id"),
        policy_version=natural(message, "policy_version"),
        info=get(message, "info", dict),
        **arrays,
    )


def read_surprise(message: Message) -> tuple[list[int], list[float]]:
    """Items and their surprise [n] of a `step_done` message; both empty if it brings none.

    Raises:
        WireError: one comes without the other, or a value is NaN, infinite or negative.
    """
    if not {"item_ids", "surprise"} & message.arrays.keys():
        return [], []
    item_ids = read_ids(message, "item_ids", MAX_INT32 + 1)
    surprise = read_array(message, "surprise", "f4", len(item_ids))
    if not (np.isfinite(surprise) & (surprise >= 0)).all():
        raise WireError("step_done.surprise must be finite and >= 0")
    return item_ids.tolist(), surprise.tolist()
