"""Which tokens of padded sequences are distinct, and where attention finds each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_EVEN = 0.8  # the shortest sequence of a bucket, as a share of its longest


@dataclass(frozen=True)
class Layout:
    """B sequences padded to L, of which some share their prompts; T distinct tokens in all."""

    distinct: Tensor  # [T] int64: position of each in [B * L], the first of those that share it
    token_of: Tensor  # [B * L] int64: which distinct token stands there; 0 where there is none
    buckets: tuple[Tensor, ...]  # [b, l] each: the distinct tokens of sequences of like length
    results: Tensor  # [T] int64: where each stands in the buckets, flat, one after another

    @staticmethod
    def of(
        prompt_lens: Sequence[int],
        completion_lens: Sequence[int],
        prompts: Sequence[int],
        *,
        device: torch.device | str = "cpu",
    ) -> "Layout":
        """Of B sequences; those with an equal number in `prompts` begin with the same prompt."""
        lengths = [p + c for p, c in zip(prompt_lens, completion_lens, strict=True)]
        longest = max(lengths)
        token_of = np.zeros((len(lengths), longest), np.int64)
        distinct: list[np.ndarray] = []
        first: dict[int, int] = {}  # row that holds a prompt
        count = 0
        for row, (prompt_len, length) in enumerate(zip(prompt_lens, lengths, strict=True)):
            begin = 0
            holder = first.setdefault(prompts[row], row)
            if holder != row:
                begin = prompt_len
                token_of[row, :begin] = token_of[holder, :begin]
            token_of[row, begin:length] = np.arange(count, count + length - begin)
            distinct.append(row * longest + np.arange(begin, length))
            count += length - begin
        buckets, starts = _buckets(token_of, lengths)
        own = np.concatenate(distinct)
        rows, columns = np.divmod(own, longest)
        results = starts[rows] + columns

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return Layout(
            tensor(own), tensor(token_of.reshape(-1)), tuple(map(tensor, buckets)), tensor(results)
        )


def _buckets(token_of: np.ndarray, lengths: Sequence[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences of like length, cut to the longest of them; and where each row [B] starts in all
    of the buckets, flattened one after another."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    starts = np.zeros(len(lengths), np.int64)
    buckets: list[np.ndarray] = []
    begin = offset = 0
    while begin < len(order):
        longest = lengths[order[begin]]
        end = begin
        while end < len(order) and lengths[order[end]] >= _EVEN * longest:
            starts[order[end]] = offset
            offset += longest
            end += 1
        buckets.append(token_of[order[begin:end], :longest])
        begin = end
    return buckets, starts
