"""How much each token counts in the loss of an update: loss = sum over tokens of weight * loss.

The weights carry the denominators of the whole batch over all ranks and micro-batches, so sums of
weighted losses need no further division, and no result depends on how the batch was cut.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from async_r1.types import Batch


def token_weights(
    batch: Batch, mode: Literal["token", "sequence", "prompt"]
) -> NDArray[np.float32]:
    """Weight of every completion token [N]; zero where the mask is.

    Modes, with B rollouts and P groups that have any trainable token:
        token: 1 / trainable tokens of the batch (DAPO, arXiv 2503.14476).
        sequence: 1 / (B * trainable tokens of the rollout) (GRPO, arXiv 2402.03300 eq. 3).
        prompt: 1 / (P * tokens of the group) (ScaleRL, arXiv 2510.13786), masked ones included:
            a rollout of which only the end may train counts by what it is, not by what is left.

    Tokens that a trust region silences keep their place in the denominators: otherwise the step
    would grow just when the policy has drifted.
    """
    rollout = np.repeat(np.arange(batch.num_rollouts), batch.completion_lens)  # [N]
    mask = batch.mask.astype(np.float64)
    trainable = np.bincount(rollout, weights=mask, minlength=batch.num_rollouts)  # [R]
    if mode == "token":
        denominators = np.full(batch.num_rollouts, mask.sum())
    elif mode == "sequence":
        denominators = np.count_nonzero(trainable) * trainable
    else:
        lens = np.bincount(batch.groups, weights=batch.completion_lens)  # [groups]
        num_groups = len(np.unique(batch.groups[trainable > 0]))
        denominators = num_groups * lens[batch.groups]
    weights = 1.0 / np.maximum(denominators, 1.0)  # [R]
    return (weights[rollout] * mask).astype(np.float32)
