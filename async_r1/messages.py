"""Typed records to messages and back; the schema of every message that carries tokens.

Each `read_*` checks types and the relations between fields, and raises `WireError` for whatever
a foreign or broken peer may send.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from async_r1 import errors
from async_r1.errors import AsyncR1Error, PeerError, ProtocolError, Refusal, WireError
from async_r1.types import (
    Batch,
    FinishReason,
    Lease,
    LeaseKind,
    Score,
    Segment,
    SegmentStatus,
    VersionSpan,
)
from async_r1.wire import Message

T = TypeVar("T")

_MAX_INT32 = 2**31 - 1
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_INT32, _UINT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<u4"), np.dtype("<f4")
_LAST_FINITE = int(np.float32(-_MAX_FLOAT32).view(np.int32))
_largest = np.maximum.reduce  # what `max` comes to after some more calls
_STATUSES = {status.value: status for status in SegmentStatus}
_FINISHES = {finish.value: finish for finish in FinishReason}

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


def get(message: Message, name: str, kind: type[T]) -> T:
    """A value of a message, type checked; bool is not accepted as int.

    Raises:
        WireError: the value is absent or of another type.
    """
    value = message.values.get(name)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise WireError(f"{message.kind}.{name} must be {kind.__name__}, got {value!r}")
    return value


def get_int(message: Message, name: str, least: int = 0, most: int = _MAX_INT32) -> int:
    """An integer of a message, in [least, most]; by default what arrays of int32 can hold.

    Raises:
        WireError: it is absent, of another type or outside.
    """
    value = get(message, name, int)
    if not least <= value <= most:
        raise WireError(f"{message.kind}.{name} must be in [{least}, {most}], got {value}")
    return value


def write_segment(segment: Segment) -> Message:
    """The `segment` message."""
    values = {
        "rollout_id": segment.rollout_id,
        "lease_epoch": segment.lease_epoch,
        "token_offset": segment.token_offset,
        "prefix_hash": segment.prefix_hash,
        "status": segment.status.value,
        "finish_reason": segment.finish_reason.value if segment.finish_reason else "",
        "spans": [[span.policy_version, span.num_tokens] for span in segment.spans],
        "prefill_version": segment.prefill_version,
        "swaps": list(segment.swaps),
    }
    arrays: dict[str, Any] = {
        "token_ids": segment.token_ids,
        "behavior_logprobs": segment.behavior_logprobs,
    }
    if segment.mask is not None:
        arrays["mask"] = segment.mask
    if segment.prompt_ids is not None:
        arrays["prompt_ids"] = segment.prompt_ids
    return Message("segment", values, arrays)


def read_segment(message: Message, vocab_size: int = _MAX_INT32 + 1) -> Segment:
    """Segment of a `segment` message.

    Raises:
        WireError: a field is absent, of the wrong type, or contradicts another; or a token id is
            not below `vocab_size`. Its `reason` tells which.
    """
    return _plain_segment(message, vocab_size) or _any_segment(message, vocab_size)


def _plain_segment(message: Message, vocab_size: int) -> Segment | None:
    """The segment, if all is right with it and nothing is unusual: none of the checks of
    `_any_segment` is left out, but none of them has words, and arrays are read once or twice."""
    values, arrays = message.values, message.arrays
    get = values.get
    rollout_id, lease_epoch, offset = get("rollout_id"), get("lease_epoch"), get("token_offset")
    prefix_hash, prefill_version = get("prefix_hash"), get("prefill_version")
    status_text, finish_text = get("status"), get("finish_reason")
    pairs, swaps = get("spans"), get("swaps")
    token_ids, logprobs = arrays.get("token_ids"), arrays.get("behavior_logprobs")
    if (
        not type(rollout_id) is type(lease_epoch) is type(offset) is int
        or not type(prefix_hash) is type(prefill_version) is int
        or not type(status_text) is type(finish_text) is str
        or not type(pairs) is type(swaps) is list
        or (rollout_id | lease_epoch | offset | prefix_hash | prefill_version) < 0
        or swaps
        or token_ids is None
        or logprobs is None
        or "mask" in arrays
    ):
        return None
    status, finish = _STATUSES.get(status_text), _FINISHES.get(finish_text)
    count = len(token_ids)
    if (
        status is None
        or (status is SegmentStatus.FINISHED) is (finish is None)
        or (finish is None and finish_text)
        or not count
        or token_ids.dtype != _INT32
        or logprobs.dtype != _FLOAT32
        or len(logprobs) != count
        or not _all_below(token_ids, vocab_size)
        or not _all_logprobs(logprobs)
    ):
        return None
    spans, total = [], 0
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:
            return None
        version, length = pair
        if not type(version) is type(length) is int:
            return None
        if not 0 <= version <= _MAX_INT32 or length < 1:
            return None
        spans.append(VersionSpan(version, length))
        total += length
    if total != count:
        return None
    prompt = arrays.get("prompt_ids")
    if prompt is not None and (
        prompt.dtype != _INT32 or not len(prompt) or not _all_below(prompt, vocab_size)
    ):
        return None
    return Segment(
        rollout_id=rollout_id,
        lease_epoch=lease_epoch,
        token_offset=offset,
        prefix_hash=prefix_hash,
        status=status,
        finish_reason=finish,
        spans=tuple(spans),
        prefill_version=prefill_version,
        swaps=(),
        token_ids=token_ids,
        behavior_logprobs=logprobs,
        mask=None,
        prompt_ids=prompt,
    )


def _all_below(token_ids: NDArray[np.int32], vocab_size: int) -> bool:
    """Whether all are in [0, vocab_size): as unsigned, what is negative is large."""
    return int(_largest(token_ids.view(_UINT32))) < vocab_size


def _all_logprobs(logprobs: NDArray[np.float32]) -> bool:
    """Whether all are finite and <= 0.

    As int32, the bits of -0.0 and of finite negative numbers are those up to `_LAST_FINITE`; then
    come -inf and NaN, up to -1; 0 is +0.0; positive ones, inf and NaN are above. So one maximum
    decides unless it is +0.0, behind which -inf or NaN may hide.
    """
    largest = int(_largest(logprobs.view(_INT32)))
    return largest <= _LAST_FINITE or (largest == 0 and bool(logprobs.min() >= -_MAX_FLOAT32))


def _any_segment(message: Message, vocab_size: int) -> Segment:
    """The segment, or an error that names what is wrong with it."""
    status = _enum(message, "status", SegmentStatus)
    finish = get(message, "finish_reason", str)
    spans = []
    for pair in get(message, "spans", list):
        version, num_tokens = _int_pair("segment.spans", pair)
        if not 0 <= version <= _MAX_INT32 or num_tokens < 1:
            raise WireError(f"segment.spans must be non-empty runs of a version, got {pair!r}")
        spans.append(VersionSpan(version, num_tokens))
    token_ids = _token_ids(message, "token_ids", vocab_size)
    logprobs = _array(message, "behavior_logprobs", "f4", len(token_ids))
    mask = _array(message, "mask", "u1", len(token_ids)) if "mask" in message.arrays else None
    prompt = None
    if "prompt_ids" in message.arrays:
        prompt = _token_ids(message, "prompt_ids", vocab_size)
    if sum(span.num_tokens for span in spans) != len(token_ids):
        raise WireError(
            f"segment.spans must cover {len(token_ids)} tokens, got {spans}",
            Refusal.LENGTH_MISMATCH,
        )
    if status is SegmentStatus.STREAMING and not len(token_ids):
        raise WireError("segment.token_ids must not be empty while the rollout is streaming")
    if prompt is not None and not len(prompt):
        raise WireError("segment.prompt_ids must not be empty")
    if mask is not None and (mask > 1).any():
        raise WireError("segment.mask must hold 0 and 1")
    if (status is SegmentStatus.FINISHED) != bool(finish):
        raise WireError(f"segment.finish_reason {finish!r} does not fit status {status.value}")
    if not np.isfinite(logprobs).all() or (logprobs > 0).any():
        raise WireError("segment.behavior_logprobs must be finite and <= 0", Refusal.LOGPROBS)
    swaps = get(message, "swaps", list)
    if not all(type(swap) is int for swap in swaps):
        raise WireError(f"segment.swaps must be integers, got {swaps!r}")
    return Segment(
        rollout_id=_natural(message, "rollout_id"),
        lease_epoch=_natural(message, "lease_epoch"),
        token_offset=_natural(message, "token_offset"),
        prefix_hash=_natural(message, "prefix_hash"),
        status=status,
        finish_reason=_enum(message, "finish_reason", FinishReason) if finish else None,
        spans=tuple(spans),
        prefill_version=_natural(message, "prefill_version"),
        swaps=tuple(swaps),
        token_ids=token_ids,
        behavior_logprobs=logprobs,
        mask=mask,
        prompt_ids=prompt,
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
    flat = _array(message, "prefix_ids", "i4")
    leases, start = [], 0
    for row in get(message, "leases", list):
        if not isinstance(row, dict):
            raise WireError(f"leases.leases must hold mappings, got {row!r}")
        entry = Message("lease", row)
        stop = start + _natural(entry, "prefix_len")
        if stop > len(flat):
            raise WireError("leases.prefix_ids is shorter than its leases announce")
        finish = get(entry, "finish_reason", str)
        leases.append(
            Lease(
                rollout_id=_natural(entry, "rollout_id"),
                lease_epoch=_natural(entry, "lease_epoch"),
                kind=_enum(entry, "kind", LeaseKind),
                group_id=get(entry, "group_id", int),
                member=_natural(entry, "member"),
                prompt_id=get(entry, "prompt_id", str),
                level=get(entry, "level", int),
                seed=_natural(entry, "seed"),
                token_budget=_natural(entry, "token_budget"),
                max_new_tokens=_natural(entry, "max_new_tokens"),
                temperature=get(entry, "temperature", float),
                finish_reason=_enum(entry, "finish_reason", FinishReason) if finish else None,
                prefix_ids=flat[start:stop],
                prefix_hash=_natural(entry, "prefix_hash"),
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
        rollout_id=_natural(message, "rollout_id"),
        lease_epoch=_natural(message, "lease_epoch"),
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
    arrays = {name: _array(message, name, dtype) for name, dtype in _BATCH_ARRAYS}
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
        num_items=_natural(message, "num_items"),
        beta=beta,
        batch_id=_natural(message, "batch_id"),
        policy_version=_natural(message, "policy_version"),
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
    item_ids = _token_ids(message, "item_ids", _MAX_INT32 + 1)
    surprise = _array(message, "surprise", "f4", len(item_ids))
    if not (np.isfinite(surprise) & (surprise >= 0)).all():
        raise WireError("step_done.surprise must be finite and >= 0")
    return item_ids.tolist(), surprise.tolist()


def _natural(message: Message, name: str) -> int:
    value = get(message, name, int)
    if value < 0:
        raise WireError(f"{message.kind}.{name} must be >= 0, got {value}")
    return value


def _int_pair(where: str, pair: Any) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(x) is int for x in pair):
        raise WireError(f"{where} must hold pairs of integers, got {pair!r}")
    return pair[0], pair[1]


def _enum(message: Message, name: str, cls: type[T]) -> T:
    value = get(message, name, str)
    try:
        return cls(value)  # type: ignore[call-arg]
    except ValueError:
        raise WireError(f"{message.kind}.{name} has no value {value!r}") from None


def _token_ids(message: Message, name: str, vocab_size: int) -> Any:
    token_ids = _array(message, name, "i4")
    bad = token_ids[(token_ids < 0) | (token_ids >= vocab_size)]
    if len(bad):
        raise WireError(
            f"{message.kind}.{name} must be in [0, {vocab_size}), got {bad[0]}", Refusal.VOCABULARY
        )
    return token_ids


def _array(message: Message, name: str, dtype: str, length: int | None = None) -> Any:
    array = message.arrays.get(name)
    if array is None or array.dtype != np.dtype(dtype):
        got = "nothing" if array is None else array.dtype
        raise WireError(f"{message.kind}.{name} must be an array of {dtype}, got {got}")
    if length is not None and len(array) != length:
        raise WireError(
            f"{message.kind}.{name} must have {length} elements, got {len(array)}",
            Refusal.LENGTH_MISMATCH,
        )
    return array
