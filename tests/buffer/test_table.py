"""Table, selectors and rate limiter against lists and counts."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from buffer.rate_limiters import SamplesPerInsert
from buffer.replay.ordered import fifo, lifo, lowest_priority
from buffer.replay.prioritized import Prioritized
from buffer.replay.protocol import Selector
from buffer.replay.uniform import Uniform
from buffer.table import Removed, Table

SELECTORS = {"fifo": fifo, "lifo": lifo, "uniform": Uniform, "prioritized": Prioritized}


def make_table(
    sampler: str = "fifo", *, max_size: int = 1000, max_times: int = 1, ratio: float = 1.0
) -> Table[str]:
    limiter = SamplesPerInsert(ratio, tolerance=1e9)
    return Table(SELECTORS[sampler](), fifo(), limiter, max_size, max_times)


@dataclass
class Twin:
    """Items as a list in order of id, with the times that each was sampled."""

    max_size: int
    max_times: int
    items: list[tuple[int, str]] = field(default_factory=list)
    times: dict[int, int] = field(default_factory=dict)

    def insert(self, item_id: int, item: str) -> int | None:
        removed = None
        if len(self.items) == self.max_size:
            removed = min(known for known, _ in self.items)
            self.remove(removed)
        self.items = sorted([*self.items, (item_id, item)])
        self.times[item_id] = 0
        return removed

    def remove(self, item_id: int) -> None:
        self.items = [(known, item) for known, item in self.items if known != item_id]

    def sampled(self, item_ids: list[int]) -> None:
        for item_id in item_ids:
            self.times[item_id] += 1
            if self.times[item_id] == self.max_times:
                self.remove(item_id)


@pytest.mark.parametrize("sampler", ["fifo", "lifo", "uniform", "prioritized"])
def test_random_operations_against_a_list(sampler: str) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        max_size, max_times = int(rng.integers(1, 8)), int(rng.integers(1, 4))
        table = make_table(sampler, max_size=max_size, max_times=max_times)
        twin, ids = Twin(max_size, max_times), rng.permutation(200).tolist()
        inserts = samples = 0
        for _ in range(60):
            kind = rng.random()
            if kind < 0.5:
                item_id = ids.pop()
                removed = table.insert(item_id, f"item {item_id}")
                expected = twin.insert(item_id, f"item {item_id}")
                assert (removed.item_id if removed else None) == expected
                if removed:
                    times = twin.times[removed.item_id]
                    assert removed == Removed(removed.item_id, f"item {expected}", times)
                inserts += 1
            elif kind < 0.6 and twin.items:
                item_id, item = twin.items[int(rng.integers(len(twin.items)))]
                assert table.remove(item_id) == Removed(item_id, item, twin.times[item_id])
                twin.remove(item_id)
            elif twin.items:
                count = int(rng.integers(1, len(twin.items) + 1))
                population = dict(twin.items)
                draw = table.sample(count, rng)
                assert len(set(draw.item_ids)) == count
                assert draw.items == [population[item_id] for item_id in draw.item_ids]
                if sampler == "fifo":
                    assert draw.item_ids == sorted(population)[:count]
                    assert draw.inclusion_probs == [1.0] * count
                elif sampler == "lifo":
                    assert draw.item_ids == sorted(population)[-count:][::-1]
                else:  # without priorities all are alike
                    assert draw.inclusion_probs == pytest.approx([count / len(population)] * count)
                twin.sampled(draw.item_ids)
                samples += count
            assert sorted(table.items().items()) == twin.items and len(table) == len(twin.items)
            assert table.rate_limiter.num_inserts == inserts
            assert table.rate_limiter.num_samples == samples
            valid, problem = table.check_valid()
            assert valid, problem


def test_every_item_is_sampled_at_most_max_times() -> None:
    table, seen = make_table("uniform", max_times=3), []
    for item_id in range(20):
        table.insert(item_id, "")
    rng = np.random.default_rng(0)
    while len(table):
        seen += table.sample(min(4, len(table)), rng).item_ids
    assert sorted(seen) == sorted(3 * list(range(20)))


def test_uniform_inclusion_frequencies_match_the_probabilities_that_ship() -> None:
    """n of N, for each item and for each pair of items, within five standard deviations."""
    rng, selector = np.random.default_rng(3), Uniform()
    for item_id in range(10):
        selector.insert(item_id * 7)
    draws, singles, pairs = 4000, np.zeros(10), np.zeros((10, 10))
    for _ in range(draws):
        chosen, probs = selector.select(3, rng)
        assert probs.tolist() == [0.3] * 3
        index = np.array(chosen) // 7
        singles[index] += 1
        pairs[np.ix_(index, index)] += 1
    assert np.all(np.abs(singles - 0.3 * draws) < 5 * np.sqrt(draws * 0.3 * 0.7))
    both = 3 / 10 * 2 / 9
    apart = pairs[~np.eye(10, dtype=bool)]
    assert np.all(np.abs(apart - both * draws) < 5 * np.sqrt(draws * both * (1 - both)))


def test_fifo_takes_the_lowest_ids_whatever_the_order_of_insertion() -> None:
    selector = fifo()
    for item_id in (5, 1, 9, 3):
        selector.insert(item_id)
    selector.remove(1)
    assert selector.select(2, np.random.default_rng(0))[0] == [3, 5]


@pytest.mark.parametrize("selector", [fifo(), Uniform(), Prioritized(), lowest_priority()])
def test_selectors_refuse_what_makes_no_sense(selector: Selector) -> None:
    selector.insert(1)
    with pytest.raises(AssertionError):
        selector.insert(1)
    with pytest.raises(AssertionError):
        selector.select(2, np.random.default_rng(0))
    with pytest.raises(KeyError):
        selector.remove(2)


# ratio, tolerance, inserts, samples, count, whether the draw may happen
WANT = [
    (1.0, 0, 4, 0, 4, True),
    (1.0, 0, 4, 0, 5, False),
    (1.0, 0, 4, 4, 1, False),
    (1.0, 2, 4, 4, 2, True),
    (1.0, 2, 4, 4, 3, False),
    (2.0, 0, 4, 4, 4, True),
    (2.0, 0, 4, 5, 4, False),
    (0.5, 0, 4, 0, 2, True),
    (0.5, 0, 4, 1, 2, False),
    (1.0, 0, 0, 0, 1, False),
    (1.0, 1, 0, 0, 1, True),
]


@pytest.mark.parametrize(("ratio", "tolerance", "inserts", "samples", "count", "want"), WANT)
def test_samples_per_insert(
    ratio: float, tolerance: float, inserts: int, samples: int, count: int, want: bool
) -> None:
    limiter = SamplesPerInsert(ratio, tolerance)
    limiter.inserted(inserts)
    limiter.sampled(samples)
    assert limiter.can_sample(count) is want
    assert limiter.ratio == (samples / inserts if inserts else 0.0)


def test_limiter_state_and_refunded_draws() -> None:
    limiter = SamplesPerInsert(1.0, 0.0)
    limiter.inserted(3)
    limiter.sampled(3)
    restored = SamplesPerInsert(1.0, 0.0)
    restored.load_state_dict(limiter.state_dict())
    assert not restored.can_sample(1)
    restored.unsampled(2)
    assert restored.can_sample(2) and not restored.can_sample(3)


def test_table_does_not_draw_beyond_its_limiter() -> None:
    table: Table[str] = Table(fifo(), fifo(), SamplesPerInsert(0.5, 0.0), 10, 1)
    for item_id in range(4):
        table.insert(item_id, "")
    table.sample(2, np.random.default_rng(0))
    with pytest.raises(AssertionError):
        table.sample(1, np.random.default_rng(0))
