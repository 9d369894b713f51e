"""The order of an epoch is a permutation, whether it is kept or worked out."""

import numpy as np
import pytest

from buffer.curriculum import permutation
from buffer.curriculum.permutation import KEPT, Permutation
from tests.buffer.curriculum.helpers import check_frequencies


@pytest.mark.parametrize("size", [KEPT + 1, 100_003, 1 << 18])
def test_what_is_worked_out_is_a_permutation(size: int) -> None:
    order = Permutation(size, seed=3, epoch=1)
    entries = order.entries(0, size)
    assert np.array_equal(np.sort(entries), np.arange(size))
    assert np.array_equal(order.entries(1000, 1100), entries[1000:1100])
    neighbours = np.corrcoef(entries[:-1], entries[1:])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(size)
    other = Permutation(size, seed=3, epoch=2).entries(0, size)
    assert (entries == other).mean() < 100 / size


def test_few_prompts_have_the_order_of_numpy() -> None:
    """What earlier runs of a seed drew, they draw again."""
    expected = np.random.default_rng([5, 2]).permutation(1000)
    assert np.array_equal(Permutation(1000, seed=5, epoch=2).entries(0, 1000), expected)


@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_small_networks_are_permutations_and_every_place_is_equally_likely(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permutation, "KEPT", 0)
    places = np.zeros((size, size))
    for epoch in range(1000):
        entries = Permutation(size, seed=0, epoch=epoch).entries(0, size)
        assert sorted(entries) == list(range(size))
        places[np.arange(size), entries] += 1
    if size > 1:
        for place in range(size):
            check_frequencies(places[place], np.ones(size))
