"""A batch of rollouts cut into micro-batches under a token budget.

Sequences are sorted by length, dealt over the ranks, and grouped with neighbours of like length,
so that little is padding. Every rank gets the same number of micro-batches, the last of them
empty if need be: ZeRO's collectives run in lockstep. What is computed per token is flat: the
completion tokens of a micro-batch stand one after another, without padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


class Sequences(Protocol):
    """Prompts and completions, concatenated; `types.Batch` is one."""

    @property
    def prompt_ids(self) -> Array: ...  # [sum of prompt_lens]
    @property
    def prompt_lens(self) -> Array: ...  # [R], >= 1
    @property
    def token_ids(self) -> Array: ...  # [sum of completion_lens]
    @property
    def completion_lens(self) -> Array: ...  # [R], >= 1


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes: B sequences padded to L, with N completion tokens in all."""

    input_ids: Tensor  # [B, L] int64, padded on the right
    sources: Tensor  # [N] int64: position in [B * L] whose hidden state predicts each token
    targets: Tensor  # [N] int64: the completion tokens
    sequence: Tensor  # [N] int64: row in [0, B) that each token belongs to
    fields: Mapping[str, Tensor]  # [N] each: whatever else goes with the tokens
    rows: NDArray[np.int64]  # [B] rollouts of the batch, in order; none: nothing to train

    @property
    def num_sequences(self) -> int:
        return len(self.input_ids)


def plan(lengths: Sequence[int] | Array, num_ranks: int, max_tokens: int) -> list[list[list[int]]]:
    """Which sequences go into which micro-batch of which rank: `plan[rank][i]`.

    Every sequence appears once. A micro-batch has at most `max_tokens` padded tokens, unless it
    is a single sequence longer than that. The same lengths give the same plan on every rank.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-int(lengths[row]), row))
    shards = [_buckets(order[rank::num_ranks], lengths, max_tokens) for rank in range(num_ranks)]
    most = max(1, *map(len, shards))
    return [shard + [[] for _ in range(most - len(shard))] for shard in shards]


def collate(
    sequences: Sequences,
    fields: Mapping[str, Array],
    rows: Sequence[int],
    device: torch.device | str = "cpu",
) -> MicroBatch:
    """The micro-batch of the given rows; `fields` are flat arrays over all completion tokens.

    Without rows it is one token whose fields are zero, so that a loss weighted by a field of them
    is zero while every parameter still takes part in the backward pass.
    """
    if not rows:
        return _empty(fields, device)
    prompts = _slices(sequences.prompt_lens, rows)
    completions = _slices(sequences.completion_lens, rows)
    length = max(
        (p.stop - p.start) + (c.stop - c.start) for p, c in zip(prompts, completions, strict=True)
    )
    input_ids = np.zeros((len(rows), length), np.int64)
    sources, sequence = [], []
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, count = prompt.stop - prompt.start, completion.stop - completion.start
        assert start and count, f"rollout {rows[i]} has {start} prompt and {count} own tokens"
        input_ids[i, :start] = sequences.prompt_ids[prompt]
        input_ids[i, start : start + count] = sequences.token_ids[completion]
        first = i * length + start - 1
        sources.append(np.arange(first, first + count))
        sequence.append(np.full(count, i))
    flat = np.concatenate([np.arange(c.start, c.stop) for c in completions])

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(array).to(device)

    return MicroBatch(
        input_ids=tensor(input_ids),
        sources=tensor(np.concatenate(sources)),
        targets=tensor(sequences.token_ids[flat].astype(np.int64)),
        sequence=tensor(np.concatenate(sequence)),
        fields={name: tensor(array[flat]) for name, array in fields.items()},
        rows=np.asarray(rows, np.int64),
    )


def _buckets(order: list[int], lengths: Sequence[int] | Array, max_tokens: int) -> list[list[int]]:
    buckets, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // int(lengths[order[start]]))
        buckets.append(order[start : start + size])
        start += size
    return buckets


def _slices(lens: Array, rows: Sequence[int]) -> list[slice]:
    offsets = np.concatenate([[0], np.cumsum(lens)])
    return [slice(int(offsets[row]), int(offsets[row + 1])) for row in rows]


def _empty(fields: Mapping[str, Array], device: torch.device | str) -> MicroBatch:
    one = torch.zeros(1, dtype=torch.int64, device=device)
    nothing = {
        name: torch.from_numpy(np.zeros(1, array.dtype)).to(device)
        for name, array in fields.items()
    }
    return MicroBatch(one.new_zeros(1, 2), one, one, one, nothing, np.zeros(0, np.int64))
