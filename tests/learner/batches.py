"""Random batches."""

from typing import Any

import numpy as np

from async_r1.advantages import group_centred
from async_r1.types import Batch


def random_batch(
    seed: int = 0,
    *,
    num_groups: int = 3,
    group_size: int = 4,
    lens: tuple[int, int] = (2, 12),
    vocab: int = 128,
    policy_version: int = 5,
    **changes: Any,
) -> Batch:
    """Random tokens, a prompt for each group, versions up to four back, about a tenth of the tokens
    masked."""
    rng = np.random.default_rng(seed)
    num_rollouts = num_groups * group_size
    prompts = [rng.integers(3, vocab, length) for length in rng.integers(1, 8, num_groups)]
    prompt_lens = np.repeat([len(prompt) for prompt in prompts], group_size).astype(np.int32)
    completion_lens = rng.integers(lens[0], lens[1] + 1, num_rollouts).astype(np.int32)
    num_tokens = int(completion_lens.sum())
    groups = np.repeat(np.arange(num_groups, dtype=np.int32), group_size)
    rewards = rng.integers(0, 2, num_rollouts).astype(np.float32)
    rewards[::group_size] = 1.0 - rewards[1::group_size]  # no group without variance
    advantages = np.concatenate([group_centred(rewards[groups == g]) for g in range(num_groups)])
    fields: dict[str, Any] = {
        "batch_id": 1,
        "policy_version": policy_version,
        "prompt_ids": np.concatenate([np.tile(p, group_size) for p in prompts]).astype(np.int32),
        "prompt_lens": prompt_lens,
        "token_ids": rng.integers(3, vocab, num_tokens).astype(np.int32),
        "completion_lens": completion_lens,
        "behavior_logprobs": -rng.exponential(1.0, num_tokens).astype(np.float32),
        "versions": (policy_version - rng.integers(0, 5, num_tokens)).astype(np.int32),
        "mask": (rng.random(num_tokens) < 0.9).astype(np.uint8),
        "rewards": rewards,
        "advantages": advantages,
        "groups": groups,
        "inclusion_probs": np.ones(num_rollouts, np.float32),
        "item_ids": groups + 7,
        "rollout_ids": np.arange(num_rollouts, dtype=np.int32),
        "levels": np.ones(num_rollouts, np.int32),
        "truncated": np.zeros(num_rollouts, np.uint8),
        "info": {"accuracy/mean": 0.5},
    }
    return Batch(**{**fields, **changes})
