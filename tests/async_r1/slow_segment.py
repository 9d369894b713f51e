"""What a `segment` message must be, said one rule at a time over plain lists."""

import math
from typing import Any

import numpy as np

from async_r1.types import FinishReason, Segment, SegmentStatus, VersionSpan
from async_r1.wire import Message


class Refused(Exception):
    """The message is no segment."""


def read_segment_slowly(message: Message, vocab_size: int = 2**31) -> Segment:
    """
    Raises:
        Refused: it breaks a rule.
    """
    values, arrays = message.values, message.arrays

    def require(holds: bool) -> None:
        if not holds:
            raise Refused

    for name in ("rollout_id", "lease_epoch", "token_offset", "prefix_hash", "prefill_version"):
        require(isinstance(values.get(name), int) and not isinstance(values.get(name), bool))
        require(values[name] >= 0)
    require(isinstance(values.get("status"), str) and values["status"] in list(SegmentStatus))
    status = SegmentStatus(values["status"])
    finish = values.get("finish_reason")
    require(isinstance(finish, str) and finish in ["", *FinishReason])
    require((status is SegmentStatus.FINISHED) == (finish != ""))
    require(isinstance(values.get("swaps"), list))
    require(all(isinstance(s, int) and not isinstance(s, bool) for s in values["swaps"]))

    def tokens(name: str) -> np.ndarray:
        array = arrays.get(name)
        require(array is not None and array.dtype == np.int32)
        require(all(0 <= token < vocab_size for token in array.tolist()))
        return array

    ids = tokens("token_ids")
    prompt = None
    if "prompt_ids" in arrays:
        prompt = tokens("prompt_ids")
        require(len(prompt) > 0)
    logprobs, mask = arrays.get("behavior_logprobs"), None
    require(logprobs is not None and logprobs.dtype == np.float32 and len(logprobs) == len(ids))
    require(all(math.isfinite(x) and x <= 0 for x in logprobs.tolist()))
    if "mask" in arrays:
        mask = arrays["mask"]
        require(mask.dtype == np.uint8 and len(mask) == len(ids) and set(mask.tolist()) <= {0, 1})
    require(len(ids) > 0 or status is not SegmentStatus.STREAMING)
    spans: list[Any] = []
    require(isinstance(values.get("spans"), list))
    for pair in values["spans"]:
        require(isinstance(pair, list) and len(pair) == 2)
        require(all(isinstance(x, int) and not isinstance(x, bool) for x in pair))
        require(0 <= pair[0] < 2**31 and pair[1] > 0)
        spans.append(VersionSpan(*pair))
    require(sum(span.num_tokens for span in spans) == len(ids))
    names = ("rollout_id", "lease_epoch", "token_offset", "prefix_hash", "prefill_version")
    return Segment(
        **{name: values[name] for name in names},
        status=status,
        finish_reason=FinishReason(finish) if finish else None,
        spans=tuple(spans),
        swaps=tuple(values["swaps"]),
        token_ids=ids,
        behavior_logprobs=logprobs,
        mask=mask,
        prompt_ids=prompt,
    )
