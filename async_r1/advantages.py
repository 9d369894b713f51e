"""Group-relative advantages."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def group_centred(rewards: ArrayLike) -> NDArray[np.float32]:
    """Rewards of one group minus their mean [G] (Dr. GRPO, arXiv 2503.20783; Kimi k1.5 eq. 3)."""
    values = np.asarray(rewards, dtype=np.float64)
    return np.asarray(values - values.mean(), dtype=np.float32)


def is_zero_variance(rewards: ArrayLike) -> bool:
    """Whether all rewards of a group are equal, so that no advantage tells members apart."""
    values = np.asarray(rewards, dtype=np.float64)
    return bool(np.ptp(values) < 1e-9)
