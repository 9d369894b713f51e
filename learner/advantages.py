"""Scale of the advantages; their centre is the group mean and comes with the batch.

Computed on the whole batch, which every rank holds, so no rank or micro-batch sees another scale.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

EPS = 1e-6


def normalise(
    advantages: NDArray[np.float32],
    groups: NDArray[np.int32],
    mode: Literal["batch", "group", "none"],
) -> NDArray[np.float32]:
    """Group-centred advantages [R] divided by a standard deviation.

    Args:
        advantages: reward minus the mean of its group [R].
        groups: group of each rollout [R], any integers.
        mode: `batch` divides by the deviation over the rollouts of all groups that have any
            (ScaleRL, arXiv 2510.13786); `group` by the unbiased deviation inside the rollout's
            own group (GRPO, arXiv 2402.03300, as verl and TRL have it), which weighs very easy
            and very hard prompts most; `none` leaves them alone (Dr. GRPO, arXiv 2503.20783).

    Deviations are taken about the group mean that the advantages carry, not about the mean of the
    members present: a group that lost members on the way keeps its baseline. A group of equal
    rewards stays at zero and has no part in the scale of the others.
    """
    values = advantages.astype(np.float64)
    if mode == "group":
        _, index = np.unique(groups, return_inverse=True)
        squares = np.bincount(index, weights=values**2)  # [groups]
        counts = np.bincount(index)
        values /= np.sqrt(squares / np.maximum(counts - 1, 1))[index] + EPS
    elif mode == "batch":
        varied = np.isin(groups, groups[np.abs(values) > EPS])
        if varied.any():
            values /= np.sqrt(np.mean(values[varied] ** 2)) + EPS
    return values.astype(np.float32)
