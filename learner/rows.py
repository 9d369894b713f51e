"""What the learner's metric row says about a batch, apart from its training."""

import resource
from typing import Any

import numpy as np
import torch

from async_r1.metrics import summary
from async_r1.types import Batch


def batch_metrics(batch: Batch, bound: int) -> dict[str, Any]:
    """Sizes, rewards, lengths, staleness; the buffer's own words (`batch.info`) come last.

    The buffer knows the groups that did not reach the learner, so its means of reward, accuracy
    and length stand for what the policy does, those of the batch only for what trains.
    """
    return {
        "batch/num_groups": len(np.unique(batch.groups)),
        "batch/num_rollouts": batch.num_rollouts,
        "batch/num_tokens": batch.num_tokens,
        "reward/mean": float(batch.rewards.mean()),
        "reward/std": float(batch.rewards.std()),
        **summary("completion_length", batch.completion_lens),
        "completion_length/clip_frac": float(batch.truncated.mean()),
        **staleness_metrics(batch, bound),
        **batch.info,
    }


def staleness_metrics(batch: Batch, bound: int) -> dict[str, Any]:
    """Age of the trained tokens in versions, and how many versions took part in a rollout."""
    sampled = batch.versions >= 0  # tokens that no policy sampled carry version -1
    age = batch.policy_version - batch.versions
    trained = age[batch.mask.astype(bool)]
    versions = versions_per_rollout(batch)
    return {
        "staleness/mean": float(trained.mean()) if trained.size else 0.0,
        "staleness/max": int(trained.max()) if trained.size else 0,
        "staleness/bound": bound,
        "staleness/masked_tokens": int((sampled & (batch.mask == 0) & (age > bound)).sum()),
        "versions_per_rollout/mean": float(versions.mean()) if versions.size else 0.0,
        "versions_per_rollout/three_or_more_frac": (
            float((versions >= 3).mean()) if versions.size else 0.0
        ),
    }


def versions_per_rollout(batch: Batch) -> np.ndarray:
    """Distinct policy versions among the sampled tokens of each rollout [R]."""
    rollout = np.repeat(np.arange(batch.num_rollouts), batch.completion_lens)
    sampled = batch.versions >= 0
    pairs = np.unique(np.stack([rollout[sampled], batch.versions[sampled]]), axis=1)
    return np.bincount(pairs[0], minlength=batch.num_rollouts)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory this process ever held: the device's, or its resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
