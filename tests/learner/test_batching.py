"""Micro-batches hold the whole batch, exactly once, under the budget, in lockstep."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.batching import collate, plan
from tests.learner.batches import random_batch

lengths_ = st.lists(st.integers(2, 60), max_size=60)


@given(lengths_, st.integers(1, 5), st.integers(8, 200))
def test_plan(lengths: list[int], num_ranks: int, max_tokens: int) -> None:
    shards = plan(lengths, num_ranks, max_tokens)
    assert shards == plan(np.array(lengths, np.int32), num_ranks, max_tokens)
    assert len(shards) == num_ranks
    assert len({len(shard) for shard in shards}) == 1, "ranks in lockstep"
    assert len(shards[0]) >= 1
    rows = [row for shard in shards for micro in shard for row in micro]
    assert sorted(rows) == list(range(len(lengths)))
    for micro in (micro for shard in shards for micro in shard if micro):
        padded = len(micro) * max(lengths[row] for row in micro)
        assert padded <= max_tokens or len(micro) == 1


@given(lengths_, st.integers(1, 5))
def test_ranks_get_even_shares(lengths: list[int], num_ranks: int) -> None:
    shares = [
        sum(lengths[row] for micro in shard for row in micro)
        for shard in plan(lengths, num_ranks, 100)
    ]
    assert max(shares) - min(shares) <= max(lengths, default=0)


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(20, 120))
def test_tokens_survive_collation(seed: int, num_ranks: int, max_tokens: int) -> None:
    batch = random_batch(seed)
    index = np.arange(batch.num_tokens)
    fields = {"index": index, "behavior_logprobs": batch.behavior_logprobs}
    lengths = batch.prompt_lens + batch.completion_lens
    prompt_starts = np.concatenate([[0], np.cumsum(batch.prompt_lens)])
    seen = []
    for rows in (rows for shard in plan(lengths, num_ranks, max_tokens) for rows in shard if rows):
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
        # The hidden state at `source` has seen everything up to the token before the target.
        assert (flat[micro.sources + 1] == micro.targets).all()
        for i, row in enumerate(rows):
            prompt = batch.prompt_ids[prompt_starts[row] : prompt_starts[row + 1]]
            assert (micro.input_ids[i, : len(prompt)].numpy() == prompt).all()
            first = micro.sources[micro.sequence == i][0].item()
            assert first == i * micro.input_ids.shape[1] + len(prompt) - 1
    assert sorted(seen) == index.tolist()


def test_micro_batch_without_rows_has_one_token_that_counts_for_nothing() -> None:
    batch = random_batch(0)
    fields = {"weights": np.ones(batch.num_tokens, np.float32), "mask": batch.mask.astype(bool)}
    micro = collate(batch, fields, [])
    assert micro.input_ids.shape == (1, 2)
    assert micro.targets.shape == micro.sources.shape == (1,)
    assert micro.fields["weights"].tolist() == [0.0]
    assert micro.fields["mask"].dtype == torch.bool and not micro.fields["mask"].any()
