"""Fifo, lifo and lowest priority against a sorted list; uniform against counting."""

from collections.abc import Callable

import numpy as np
import pytest

from buffer.replay.ordered import Ordered, fifo, lifo, lowest_priority
from buffer.replay.uniform import Uniform

ORDERS: list[tuple[Callable[[], Ordered], Callable[[int, float], float]]] = [
    (fifo, lambda item_id, weight: item_id),
    (lifo, lambda item_id, weight: -item_id),
    (lowest_priority, lambda item_id, weight: weight),
]


@pytest.mark.parametrize(("make", "order"), ORDERS)
def test_random_operations_against_a_sorted_list(
    make: Callable[[], Ordered], order: Callable[[int, float], float]
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        selector, twin = make(), dict[int, float]()
        ids = rng.permutation(300).tolist()
        for _ in range(150):
            kind = rng.random()
            if kind < 0.4 or not twin:
                item_id, weight = ids.pop(), float(rng.integers(0, 5))
                selector.insert(item_id, weight)
                twin[item_id] = weight
            elif kind < 0.6:
                item_id = int(rng.choice(list(twin)))
                selector.remove(item_id)
                del twin[item_id]
            elif kind < 0.8:
                item_id, weight = int(rng.choice(list(twin))), float(rng.integers(0, 5))
                selector.update([item_id], [weight])
                twin[item_id] = weight
            count = int(rng.integers(0, len(twin) + 1))
            got, probs = selector.select(count, rng)
            want = sorted(twin, key=lambda item_id: (order(item_id, twin[item_id]), item_id))
            assert got == want[:count] and probs.tolist() == [1.0] * count
            valid, problem = selector.check_valid()
            assert valid, problem
            if rng.random() < 0.1:
                restored = make()
                restored.load_state_dict(selector.state_dict())
                selector = restored


def test_uniform_in_lockstep_and_restored() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        selector, twin = Uniform(), set[int]()
        for item_id in range(80):
            selector.insert(item_id)
            twin.add(item_id)
            if rng.random() < 0.4:
                gone = int(rng.choice(sorted(twin)))
                selector.remove(gone)
                twin.remove(gone)
            count = int(rng.integers(0, len(twin) + 1))
            restored = Uniform()
            restored.load_state_dict(selector.state_dict())
            got = selector.select(count, np.random.default_rng(item_id))
            assert set(got[0]) <= twin and len(set(got[0])) == count
            assert got[0] == restored.select(count, np.random.default_rng(item_id))[0]
            assert selector.check_valid() == (True, "") and len(selector) == len(twin)
