"""Micro-batches hold the whole batch, exactly once, under the budget, in lockstep."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.batching import MicroBatch, collate, plan
from tests.learner.batches import random_batch


@dataclass(frozen=True)
class Drawn:
    """Sequences as hypothesis draws them: (prompt, completion length) each."""

    pairs: list[tuple[list[int], int]]

    @property
    def prompt_ids(self) -> Any:
        return np.concatenate([np.array(p, np.int32) for p, _ in self.pairs] or [np.zeros(0)])

    @property
    def prompt_lens(self) -> Any:
        return np.array([len(prompt) for prompt, _ in self.pairs], np.int32)

    @property
    def token_ids(self) -> Any:
        return np.zeros(sum(length for _, length in self.pairs), np.int32)

    @property
    def completion_lens(self) -> Any:
        return np.array([length for _, length in self.pairs], np.int32)

    def cost(self, rows: list[int]) -> tuple[int, int]:
        """Distinct tokens, and all tokens."""
        prompts = {tuple(self.pairs[row][0]) for row in rows}
        own = sum(self.pairs[row][1] for row in rows)
        return sum(map(len, prompts)) + own, sum(len(self.pairs[row][0]) for row in rows) + own


# Few different prompts, so that many share one.
prompts_ = st.lists(st.integers(0, 1), min_size=1, max_size=4)
sequences_ = st.lists(st.tuples(prompts_, st.integers(1, 60)), max_size=60).map(Drawn)


@given(sequences_, st.integers(1, 5), st.integers(8, 200))
def test_plan(sequences: Drawn, num_ranks: int, max_tokens: int) -> None:
    shards = plan(sequences, num_ranks, max_tokens)
    assert shards == plan(sequences, num_ranks, max_tokens)
    assert len(shards) == num_ranks
    assert len({len(shard) for shard in shards}) == 1, "ranks in lockstep"
    assert len(shards[0]) >= 1
    rows = [row for shard in shards for micro in shard for row in micro]
    assert sorted(rows) == list(range(len(sequences.pairs)))
    for micro in (micro for shard in shards for micro in shard if micro):
        distinct, gathered = sequences.cost(micro)
        assert (distinct <= max_tokens and gathered <= 2 * max_tokens) or len(micro) == 1


@given(sequences_, st.integers(1, 5))
def test_ranks_get_even_shares(sequences: Drawn, num_ranks: int) -> None:
    """What is dealt is at most a micro-batch large, and the smallest share is dealt to."""
    max_tokens = 100
    shares = [
        sum(sequences.cost(micro)[0] for micro in shard)
        for shard in plan(sequences, num_ranks, max_tokens)
    ]
    assert max(shares) - min(shares) <= max_tokens


@given(sequences_, st.integers(1, 5), st.integers(8, 200))
def test_without_sharing_padding_counts(sequences: Drawn, num_ranks: int, max_tokens: int) -> None:
    """A model that pads must not be given one long sequence among many short ones."""
    shards = plan(sequences, num_ranks, max_tokens, shared=False)
    lengths = (sequences.prompt_lens + sequences.completion_lens).tolist()
    assert len(shards) == num_ranks and len({len(shard) for shard in shards}) == 1
    rows = [row for shard in shards for micro in shard for row in micro]
    assert sorted(rows) == list(range(len(lengths)))
    for micro in (micro for shard in shards for micro in shard if micro):
        assert len(micro) * max(lengths[r] for r in micro) <= max_tokens or len(micro) == 1
    shares = [sum(lengths[row] for micro in shard for row in micro) for shard in shards]
    assert max(shares) - min(shares) <= max(lengths, default=0)


def test_rollouts_of_a_prompt_stay_together() -> None:
    sequences = Drawn([([9, group], length) for length in (50, 3, 20) for group in (0, 1, 2)])
    (shard,) = plan(sequences, 1, 80)
    assert sorted(map(sorted, shard)) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(20, 120))
def test_tokens_survive_collation(seed: int, num_ranks: int, max_tokens: int) -> None:
    batch = random_batch(seed)
    index = np.arange(batch.num_tokens)
    fields = {"index": index, "behavior_logprobs": batch.behavior_logprobs}
    prompt_starts = np.concatenate([[0], np.cumsum(batch.prompt_lens)])
    seen = []
    for rows in (rows for shard in plan(batch, num_ranks, max_tokens) for rows in shard if rows):
        micro = collate(batch, fields, rows)
        found = micro.fields["index"].numpy()
        seen.extend(found)
        assert micro.rows.tolist() == rows
        assert (micro.targets.numpy() == batch.token_ids[found]).all()
        logprobs = micro.fields["behavior_logprobs"].numpy()
        assert (logprobs == batch.behavior_logprobs[found]).all()
        owner = np.repeat(np.arange(batch.num_rollouts), batch.completion_lens)[found]
        assert (owner == np.array(rows)[micro.sequence.numpy()]).all()
        flat = micro.input_ids.flatten()
        expected = np.zeros(len(rows) * micro.input_ids.shape[1], bool)
        for i, row in enumerate(rows):
            begin = i * micro.input_ids.shape[1]
            expected[begin : begin + batch.prompt_lens[row] + batch.completion_lens[row]] = True
        check_layout(micro, expected)
        # The hidden state at `source` has seen everything up to the token before the target.
        assert (flat[micro.sources + 1] == micro.targets).all()
        for i, row in enumerate(rows):
            prompt = batch.prompt_ids[prompt_starts[row] : prompt_starts[row + 1]]
            assert (micro.input_ids[i, : len(prompt)].numpy() == prompt).all()
            first = micro.sources[micro.sequence == i][0].item()
            assert first == i * micro.input_ids.shape[1] + len(prompt) - 1
    assert sorted(seen) == index.tolist()


def check_layout(micro: MicroBatch, real: np.ndarray) -> None:
    """Distinct tokens are those with different tokens up to them, each where it is said to be."""
    layout, width = micro.layout, micro.input_ids.shape[1]
    ids = micro.input_ids.flatten().tolist()

    def history(position: int) -> tuple[int, ...]:
        return tuple(ids[position - position % width : position + 1])

    positions = layout.distinct.tolist()
    for position in np.flatnonzero(real):
        assert history(positions[layout.token_of[position]]) == history(int(position))
    prompts = [history(p) for p in positions]
    shared = {history(int(p)) for p in np.flatnonzero(real)}
    assert set(prompts) == shared and real[positions].all()
    flat = torch.cat([bucket.flatten() for bucket in layout.buckets])
    assert (flat[layout.results] == torch.arange(len(positions))).all()
    assert sum(len(bucket) for bucket in layout.buckets) == len(micro.rows)
    gathered = [bucket[i] for bucket in layout.buckets for i in range(len(bucket))]
    rows = layout.token_of.view(len(micro.rows), width)
    lengths = real.reshape(len(micro.rows), width).sum(1)
    expected = {tuple(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)}
    assert all(any(tuple(g[:n].tolist()) in expected for n in lengths) for g in gathered)


def test_micro_batch_without_rows_has_one_token_that_counts_for_nothing() -> None:
    batch = random_batch(0)
    fields = {"weights": np.ones(batch.num_tokens, np.float32), "mask": batch.mask.astype(bool)}
    micro = collate(batch, fields, [])
    assert micro.input_ids.shape == (1, 2)
    assert micro.targets.shape == micro.sources.shape == (1,)
    assert micro.fields["weights"].tolist() == [0.0]
    assert micro.fields["mask"].dtype == torch.bool and not micro.fields["mask"].any()
