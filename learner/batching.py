"""A batch of rollouts cut into micro-batches under a token budget.

Sequences of one prompt stay together, since the prompt is then computed once. What is computed per
token is flat: no padding goes through the model (`layout`). Every rank gets the same number of
micro-batches, the last of them empty if need be: ZeRO's collectives run in lockstep.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learner.layout import Layout

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
    """What one forward pass takes: B sequences padded to L, with N completion tokens in all.

    The padding is never computed with: `layout` says which tokens are.
    """

    input_ids: Tensor  # [B, L] int64, padded on the right
    sources: Tensor  # [N] int64: position in [B * L] whose hidden state predicts each token
    targets: Tensor  # [N] int64: the completion tokens
    sequence: Tensor  # [N] int64: row in [0, B) that each token belongs to
    fields: Mapping[str, Tensor]  # [N] each: whatever else goes with the tokens
    layout: Layout
    rows: NDArray[np.int64]  # [B] rollouts of the batch, in order; none: nothing to train

    @property
    def num_sequences(self) -> int:
        return len(self.input_ids)


def plan(
    sequences: Sequences, num_ranks: int, max_tokens: int, *, shared: bool = True
) -> list[list[list[int]]]:
    """Which sequences go into which micro-batch of which rank: `plan[rank][i]`.

    Every sequence appears once. A micro-batch has at most `max_tokens` distinct tokens (a prompt
    that several sequences share counts once) and twice as many with it counted for each of them,
    unless it is a single sequence longer than that. Ranks get even shares: the largest go first,
    each to the rank that has least. The same sequences give the same plan on every rank.

    Args:
        shared: whether the model computes a prompt once; else `max_tokens` bounds padded tokens.
    """
    if not shared:
        return _even([_padded(sequences, rank, num_ranks, max_tokens) for rank in range(num_ranks)])
    units = sorted(
        (unit for rows in _by_prompt(sequences) for unit in _parts(sequences, rows, max_tokens)),
        key=lambda unit: (-unit[0], unit[1]),
    )
    loads = [(0, rank) for rank in range(num_ranks)]
    shares: list[list[tuple[int, list[int]]]] = [[] for _ in range(num_ranks)]
    for cost, rows in units:
        load, rank = heapq.heappop(loads)
        shares[rank].append((cost, rows))
        heapq.heappush(loads, (load + cost, rank))
    return _even([_first_fit(share, max_tokens) for share in shares])


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
    prompt_of: dict[bytes, int] = {}
    keys = [sequences.prompt_ids[prompt].tobytes() for prompt in prompts]
    flat = np.concatenate([np.arange(c.start, c.stop) for c in completions])

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(array).to(device)

    return MicroBatch(
        input_ids=tensor(input_ids),
        sources=tensor(np.concatenate(sources)),
        targets=tensor(sequences.token_ids[flat].astype(np.int64)),
        sequence=tensor(np.concatenate(sequence)),
        fields={name: tensor(array[flat]) for name, array in fields.items()},
        layout=Layout.of(
            [p.stop - p.start for p in prompts],
            [c.stop - c.start for c in completions],
            [prompt_of.setdefault(key, len(prompt_of)) for key in keys],
            device=device,
        ),
        rows=np.asarray(rows, np.int64),
    )


def _even(shards: list[list[list[int]]]) -> list[list[list[int]]]:
    """The same with empty micro-batches, so that every rank has as many, and one at least."""
    most = max(1, *map(len, shards))
    return [shard + [[] for _ in range(most - len(shard))] for shard in shards]


def _padded(sequences: Sequences, rank: int, num_ranks: int, max_tokens: int) -> list[list[int]]:
    """A rank's sequences, dealt by length, with neighbours of like length in a micro-batch."""
    lengths = sequences.prompt_lens + sequences.completion_lens
    order = sorted(range(len(lengths)), key=lambda row: (-int(lengths[row]), row))[rank::num_ranks]
    micro_batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // int(lengths[order[start]]))
        micro_batches.append(order[start : start + size])
        start += size
    return micro_batches


def _by_prompt(sequences: Sequences) -> list[list[int]]:
    """Sequences of the same prompt, longest first."""
    groups: dict[bytes, list[int]] = {}
    for row, prompt in enumerate(_slices(sequences.prompt_lens, range(len(sequences.prompt_lens)))):
        groups.setdefault(sequences.prompt_ids[prompt].tobytes(), []).append(row)
    lens = sequences.completion_lens
    return [sorted(rows, key=lambda row: (-int(lens[row]), row)) for rows in groups.values()]


def _parts(
    sequences: Sequences, rows: Sequence[int], max_tokens: int
) -> list[tuple[int, list[int]]]:
    """(cost, rows) of sequences of one prompt, split where they exceed a micro-batch."""
    prompt = int(sequences.prompt_lens[rows[0]])
    parts: list[tuple[int, list[int]]] = []
    own = 0
    for row in rows:
        length = int(sequences.completion_lens[row])
        count = len(parts[-1][1]) + 1 if parts else 1
        cost = _cost(prompt, own + length, count)
        if not parts or cost > max_tokens:
            parts.append((_cost(prompt, length, 1), [row]))
            own = length
        else:
            parts[-1] = (cost, [*parts[-1][1], row])
            own += length
    return parts


def _cost(prompt: int, own: int, count: int) -> int:
    """Tokens of `count` sequences that share a prompt: those that go through the layers, or half of
    those that attention gathers."""
    return max(prompt + own, (count * prompt + own + 1) // 2)


def _first_fit(units: Sequence[tuple[int, list[int]]], max_tokens: int) -> list[list[int]]:
    """Units, largest first, each into the first micro-batch with room for it."""
    rooms: list[int] = []
    micro_batches: list[list[int]] = []
    for cost, rows in units:
        for i, room in enumerate(rooms):
            if cost <= room:
                rooms[i] -= cost
                micro_batches[i].extend(rows)
                break
        else:
            rooms.append(max_tokens - cost)
            micro_batches.append(list(rows))
    return micro_batches


def _slices(lens: Array, rows: Sequence[int]) -> list[slice]:
    offsets = np.concatenate([[0], np.cumsum(lens)])
    return [slice(int(offsets[row]), int(offsets[row + 1])) for row in rows]


def _empty(fields: Mapping[str, Array], device: torch.device | str) -> MicroBatch:
    one = torch.zeros(1, dtype=torch.int64, device=device)
    nothing = {
        name: torch.from_numpy(np.zeros(1, array.dtype)).to(device)
        for name, array in fields.items()
    }
    layout = Layout.of([1], [1], [0], device=device)
    return MicroBatch(one.new_zeros(1, 2), one, one, one, nothing, layout, np.zeros(0, np.int64))
