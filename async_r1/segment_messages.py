"""The `segment` message: tokens of a rollout, and all that must hold of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from async_r1.errors import Refusal, WireError
from async_r1.fields import MAX_INT32, enum, get, int_pair, natural, read_array, read_ids
from async_r1.types import FinishReason, Segment, SegmentStatus, VersionSpan
from async_r1.wire import Message

_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_INT32, _UINT32, _FLOAT32 = np.dtype("<i4"), np.dtype("<u4"), np.dtype("<f4")
_LAST_FINITE = int(np.float32(-_MAX_FLOAT32).view(np.int32))
_largest = np.maximum.reduce  # what `max` comes to after some more calls
_STATUSES = {status.value: status for status in SegmentStatus}
_FINISHES = {finish.value: finish for finish in FinishReason}


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


def read_segment(message: Message, vocab_size: int = MAX_INT32 + 1) -> Segment:
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
        if not 0 <= version <= MAX_INT32 or length < 1:
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
    status = enum(message, "status", SegmentStatus)
    finish = get(message, "finish_reason", str)
    spans = []
    for pair in get(message, "spans", list):
        version, num_tokens = int_pair("segment.spans", pair)
        if not 0 <= version <= MAX_INT32 or num_tokens < 1:
            raise WireError(f"segment.spans must be non-empty runs of a version, got {pair!r}")
        spans.append(VersionSpan(version, num_tokens))
    token_ids = read_ids(message, "token_ids", vocab_size)
    logprobs = read_array(message, "behavior_logprobs", "f4", len(token_ids))
    mask = read_array(message, "mask", "u1", len(token_ids)) if "mask" in message.arrays else None
    prompt = None
    if "prompt_ids" in message.arrays:
        prompt = read_ids(message, "prompt_ids", vocab_size)
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
        rollout_id=natural(message, "rollout_id"),
        lease_epoch=natural(message, "lease_epoch"),
        token_offset=natural(message, "token_offset"),
        prefix_hash=natural(message, "prefix_hash"),
        status=status,
        finish_reason=enum(message, "finish_reason", FinishReason) if finish else None,
        spans=tuple(spans),
        prefill_version=natural(message, "prefill_version"),
        swaps=tuple(swaps),
        token_ids=token_ids,
        behavior_logprobs=logprobs,
        mask=mask,
        prompt_ids=prompt,
    )
