"""Importance weights of items that were drawn with unequal probability.

An item of inclusion probability pi, in a draw of n items from N, gets

    w = (n / (N * pi)) ** beta

With beta = 1 the mean of w * x over a draw is an unbiased estimate of the mean of x over the table
(Horvitz and Thompson 1952); prioritized experience replay (arXiv 1511.05952, section 3.4) anneals
beta and divides by the largest weight, which is not done here: the objectives cap w together with
the policy ratio. Equal probabilities give ones.
"""

import numpy as np
from numpy.typing import NDArray

from async_r1.types import Batch


def draw_weights(batch: Batch) -> NDArray[np.float64] | None:
    """w of every rollout [R]; None if the draw needs no correction (`beta` is 0)."""
    if batch.beta == 0:
        return None
    num_drawn = len(np.unique(batch.item_ids))
    probs = batch.inclusion_probs.astype(np.float64)
    return np.asarray((num_drawn / (batch.num_items * probs)) ** batch.beta, np.float64)


def weight_metrics(batch: Batch) -> dict[str, float]:
    """Mean and maximum of w over rollouts, and (sum w)^2 / (R sum w^2)."""
    w = draw_weights(batch)
    if w is None:
        w = np.ones(batch.num_rollouts)
    return {
        "replay/weight_mean": float(w.mean()),
        "replay/weight_max": float(w.max()),
        "replay/ess": float(w.sum() ** 2 / (len(w) * np.sum(w**2))),
    }
