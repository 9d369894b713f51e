"""Prioritized draws: array against tree against a dictionary, and against closed forms."""

import numpy as np
import pytest

from buffer.replay.prioritized import MAX_EXPONENT, Prioritized
from buffer.replay.systematic import inclusion_probs


def closed_form(twin: dict[int, float], mix: float, count: int) -> dict[int, float]:
    """The inclusion probabilities from log-weights by id."""
    keys = np.asarray(list(twin.values()))
    weights = np.exp(keys - keys.max())
    shares = (1 - mix) * weights / weights.sum() + mix / len(twin)
    return dict(zip(twin, inclusion_probs(shares, count), strict=True))


@pytest.mark.parametrize("mix", [0.0, 0.25])
def test_array_and_tree_in_lockstep_with_a_dictionary(mix: float) -> None:
    """The same operations give the same draws with the same probabilities, those of the formula."""
    certain = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        spread = float(rng.choice([0.5, 3.0, 25.0]))
        flat, tree = Prioritized(mix, tree_from=10**9), Prioritized(mix, tree_from=8)
        twin: dict[int, float] = {}
        next_id = 0
        for _ in range(120):
            kind = rng.random()
            if kind < 0.5 or not twin:
                key = float(rng.normal(0, spread))
                for selector in (flat, tree):
                    selector.insert(next_id, key)
                twin[next_id] = key
                next_id += int(rng.integers(1, 4))
            elif kind < 0.65:
                item_id = int(rng.choice(list(twin)))
                for selector in (flat, tree):
                    selector.remove(item_id)
                del twin[item_id]
            elif kind < 0.8:
                ids = rng.choice(list(twin), size=min(3, len(twin)), replace=False).tolist()
                keys = rng.normal(0, spread, len(ids)).tolist()
                for selector in (flat, tree):
                    selector.update(ids, keys)
                twin.update(zip(ids, keys, strict=True))
            else:
                count = int(rng.integers(1, len(twin) + 1))
                draws = [s.select(count, np.random.default_rng(seed)) for s in (flat, tree)]
                want = closed_form(twin, mix, count)
                for ids, probs in draws:
                    assert len(set(ids)) == count
                    assert probs == pytest.approx([want[i] for i in ids], rel=1e-9)
                assert draws[0][0] == draws[1][0]
                certain += 0 < sum(p == 1 for p in want.values()) < count
            for selector in (flat, tree):
                valid, problem = selector.check_valid()
                assert valid, problem
                assert len(selector) == len(twin)
    assert certain > 10


@pytest.mark.parametrize("tree_from", [1, 10**9])
@pytest.mark.parametrize("mix", [0.0, 0.2])
def test_draws_follow_the_closed_form(tree_from: int, mix: float) -> None:
    """How often each of 50 items is drawn: draws of one by their chi-square; draws of eight, whose
    items depend on each other, item by item."""
    selector, twin = Prioritized(mix, tree_from=tree_from), {}
    keys = np.random.default_rng(5).normal(0, 1.0, 50)
    for item_id, key in enumerate(keys.tolist()):
        selector.insert(item_id, key)
        twin[item_id] = key
    rng, draws, found = np.random.default_rng(6), 4000, np.zeros(50)
    for _ in range(draws):
        ids, _ = selector.select(1, rng)
        found[ids] += 1
    want = np.asarray(list(closed_form(twin, mix, 1).values())) * draws
    chi_square = float(((found - want) ** 2 / want).sum())  # 49 degrees of freedom
    assert chi_square < 49 + 4 * np.sqrt(2 * 49)
    found[:] = 0
    for _ in range(draws):
        ids, probs = selector.select(8, rng)
        found[ids] += 1
    probs = np.asarray(list(closed_form(twin, mix, 8).values()))
    spread = np.sqrt(draws * probs * (1 - probs)) + 1e-9
    assert (np.abs(found - probs * draws) <= 5 * spread).all()


def test_moving_the_base_changes_no_draw() -> None:
    """Keys that grow as age decay makes them, over many bases, against one that never moves."""
    selector, twin = Prioritized(0.1), {}
    rng = np.random.default_rng(0)
    bases = set()
    for item_id in range(300):
        key = 0.6 * (float(rng.normal()) + 2.0 * item_id)
        selector.insert(item_id, key)
        twin[item_id] = key
        if len(twin) > 40:
            oldest = min(twin)
            selector.remove(oldest)
            del twin[oldest]
        bases.add(selector._base)
        count = min(4, len(twin))
        ids, probs = selector.select(count, np.random.default_rng(item_id))
        want = closed_form(twin, 0.1, count)
        assert probs == pytest.approx([want[i] for i in ids], rel=1e-9)
        assert selector.check_valid() == (True, "")
    assert 4 < len(bases) < 20


@pytest.mark.parametrize("tree_from", [1, 10**9])
def test_what_is_left_after_the_large_ones_is_drawn_by_its_own_shares(tree_from: int) -> None:
    selector = Prioritized(tree_from=tree_from)
    selector.insert(0, 5000.0)
    for item_id, key in ((1, 0.0), (2, np.log(3.0))):
        selector.insert(item_id, key)
    assert selector.select(1, np.random.default_rng(0))[0] == [0]
    assert sorted(selector.select(3, np.random.default_rng(0))[0]) == [0, 1, 2]
    selector.remove(0)
    probs = {selector.select(1, np.random.default_rng(s))[0][0]: 0 for s in range(20)}
    assert probs.keys() == {1, 2}
    assert selector.probabilities()[[0, 1]] == pytest.approx([0.75, 0.25])  # 2 moved to place 0
    assert selector._base < MAX_EXPONENT


def test_uniform_share_is_what_the_floor_brought() -> None:
    selector = Prioritized(0.5)
    for item_id, key in enumerate((0.0, -1e3)):
        selector.insert(item_id, key)
    seen = {}
    for seed in range(40):
        (item_id,), _ = selector.select(1, np.random.default_rng(seed))
        seen[item_id] = selector.uniform_share
    assert seen == {0: pytest.approx(1 / 3), 1: pytest.approx(1.0)}  # p = 3/4 and 1/4


@pytest.mark.parametrize("tree_from", [4, 10**9])
def test_state_gives_the_same_draws(tree_from: int) -> None:
    rng = np.random.default_rng(0)
    selector = Prioritized(0.1, tree_from=tree_from)
    for item_id in range(30):
        selector.insert(item_id, float(rng.normal(0, 20)))
    for item_id in rng.choice(30, 12, replace=False).tolist():
        selector.remove(item_id)
    restored = Prioritized(0.1, tree_from=tree_from)
    restored.load_state_dict(selector.state_dict())
    for seed in range(10):
        got, want = (s.select(5, np.random.default_rng(seed)) for s in (restored, selector))
        assert got[0] == want[0] and got[1].tolist() == want[1].tolist()
        for item in (restored, selector):
            item.insert(100 + seed, float(seed))
