"""The tree against the running sum of a flat array."""

import numpy as np
import pytest

from buffer.replay.sum_tree import FANOUT, SumTree


def test_random_updates_and_lookups_against_a_flat_array() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = int(rng.choice([1, 3, FANOUT, FANOUT + 1, 1000, 40_000, 600_000]))
        twin = rng.exponential(1.0, size)
        tree = SumTree(twin)
        for _ in range(15):
            grown = int(rng.integers(0, 2)) * int(rng.integers(0, size + 1))
            twin = np.concatenate([twin, np.zeros(grown)])
            places = rng.choice(len(twin), size=int(rng.integers(1, min(70, len(twin)) + 1)),
                                replace=False)  # fmt: skip
            if grown:
                places = np.unique(np.append(places, len(twin) - 1))
            weights = rng.exponential(1.0, len(places)) * rng.integers(0, 2, len(places))
            twin[places] = weights
            tree.set(places, weights)
            valid, problem = tree.check_valid()
            assert valid, problem
            assert np.array_equal(tree.leaves[: len(twin)], twin)
            assert tree.total == pytest.approx(twin.sum())
            for each in (0.0, 0.3):
                scale = float(rng.uniform(0.1, 3.0))
                sums = np.cumsum(scale * twin + each)
                if not sums[-1]:
                    continue
                targets = np.sort(rng.uniform(0, sums[-1], 50))
                # Away from a boundary, where only rounding decides.
                far = np.abs(sums[np.searchsorted(sums, targets)] - targets) > 1e-9
                got = tree.find(targets, scale, each)
                want = np.searchsorted(sums, targets, side="right")
                assert np.array_equal(got[far], want[far])


def test_rounding_never_finds_an_item_of_weight_zero() -> None:
    weights = np.zeros(30_000)
    weights[::7] = 0.1
    tree = SumTree(weights)
    total = np.cumsum(weights)[-1]
    targets = np.asarray([0.0, total * (1 - 1e-16), total, total * (1 + 1e-12)])
    found = tree.find(targets, 1.0, 0.0)
    assert (weights[found] > 0).all()
