"""Random worlds for `simulation.py`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.buffer.fakes import make_config
from tests.buffer.simulation import World

Draw = Callable[[np.random.Generator], int]


def short(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 9))


def long_tailed(rng: np.random.Generator) -> int:
    """Most rollouts are short, every fourth outlives several versions."""
    return int(rng.choice([1, 2, 3, 60]))


def constant(rng: np.random.Generator) -> int:
    return 4


def make_world(
    seed: int, *, lengths: Draw = long_tailed, world: dict[str, Any] | None = None, **sections: Any
) -> World:
    """A random world; `sections` are options of the config that are not random."""
    rng = np.random.default_rng([seed, 99])
    values: dict[str, dict[str, Any]] = {
        "buffer": {
            "refill_max": int(rng.integers(0, 3)),
            "group_size": int(rng.integers(2, 4)),
            "max_unusable_publishes": 10**6,
            "wait_timeout_s": 1e9,
        },
        "learner": {
            "groups_per_update": int(rng.integers(1, 5)),
            "updates_per_publish": int(rng.integers(1, 4)),
        },
        "staleness": {"eta": int(rng.integers(0, 7))},
        "actors": {
            "segment_tokens": 3,
            "rollout_token_budget": int(rng.choice([0, 0, 5])),
            "max_concurrent": int(rng.integers(1, 7)),
        },
    }
    merged: dict[str, Any] = {"seed": seed}
    for name in {*values, *sections}:
        section = sections.get(name, {})
        merged[name] = section
        if isinstance(section, dict):
            merged[name] = {**values.get(name, {}), **section}
    options = {
        "num_actors": int(rng.integers(1, 4)),
        "zero_variance": float(rng.choice([0, 0.3, 0.7])),
        **(world or {}),
    }
    return World(config=make_config(**merged), seed=seed, lengths=lengths, **options)


def wide_world(seed: int, overdue: str) -> World:
    """All that is admitted is sampled at once, so that slow groups are overtaken by many."""
    eta, draws, batch = 1 + seed % 3, 1 + seed % 2, 1 + seed // 2 % 3
    return make_world(
        seed,
        buffer={"group_size": 2},
        learner={"groups_per_update": batch, "updates_per_publish": draws},
        staleness={"eta": eta, "overdue": overdue},
        actors={"max_concurrent": 2 * (eta + 1) * draws * batch, "rollout_token_budget": 0},
        world={"num_actors": 1},
    )
