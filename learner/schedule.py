"""Learning rate by optimizer step."""

import math
from typing import Literal

from async_r1.config import LearnerConfig


def learning_rate(cfg: LearnerConfig, update: int) -> float:
    """Rate of the 0-based optimizer step `update`: warm-up, then decay to `lr_min_frac`."""
    return cfg.lr * factor(
        update, cfg.num_updates, cfg.warmup_updates, cfg.lr_decay, cfg.lr_min_frac
    )


def factor(
    update: int,
    num_updates: int,
    warmup: int,
    decay: Literal["constant", "linear", "cosine"],
    floor: float,
) -> float:
    """Share of the peak rate in (0, 1]; the last of `num_updates` steps reaches `floor`.

    The warm-up is linear and never zero: its first step has 1/warmup of the peak.
    """
    if update < warmup:
        return (update + 1) / warmup
    if decay == "constant":
        return 1.0
    progress = min(1.0, (update - warmup) / max(1, num_updates - warmup - 1))
    shape = 1.0 - progress if decay == "linear" else (1.0 + math.cos(math.pi * progress)) / 2.0
    return floor + (1.0 - floor) * shape
