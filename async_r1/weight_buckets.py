"""How parameters are packed into broadcast buckets; the same plan on both sides.

A bucket is a flat byte buffer that holds whole parameters in order, each aligned to
`ALIGNMENT` bytes so that a view of its dtype can be taken without a copy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 16
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """Name, dtype and shape of one parameter as Hugging Face names it.

    Example: `ParameterSpec("lm_head.weight", "float32", (128, 128))`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Parameters that travel together: `offsets[i]` is the first byte of `specs[i]`."""

    specs: tuple[ParameterSpec, ...]
    offsets: tuple[int, ...]
    num_bytes: int


def plan_buckets(specs: Sequence[ParameterSpec], max_bytes: int) -> list[Bucket]:
    """Pack parameters in order into buckets of at most `max_bytes`, or of one parameter."""
    buckets: list[Bucket] = []
    chosen: list[ParameterSpec] = []
    offsets: list[int] = []
    end = 0
    for spec in specs:
        size = -(-spec.num_bytes // ALIGNMENT) * ALIGNMENT
        if chosen and end + size > max_bytes:
            buckets.append(Bucket(tuple(chosen), tuple(offsets), end))
            chosen, offsets, end = [], [], 0
        chosen.append(spec)
        offsets.append(end)
        end += size
    if chosen:
        buckets.append(Bucket(tuple(chosen), tuple(offsets), end))
    return buckets
