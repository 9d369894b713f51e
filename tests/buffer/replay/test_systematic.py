"""Systematic draws: what every start gives, integrated over all starts, against closed forms."""

from fractions import Fraction

import numpy as np
import pytest

from buffer.replay.systematic import distinct, inclusion_probs, systematic


def slow_inclusion_probs(weights: list[Fraction], count: int) -> list[Fraction]:
    """min(1, c * w) by taking out whoever is certain, one round at a time, in exact arithmetic."""
    certain: set[int] = set()
    while True:
        rest = [i for i in range(len(weights)) if i not in certain]
        total, left = sum(weights[i] for i in rest), count - len(certain)
        over = {i for i in rest if total and left * weights[i] >= total}
        if not over or not left:
            break
        certain |= over
    probs = [Fraction(1) if i in certain else Fraction(0) for i in range(len(weights))]
    for i in rest:
        if left:
            probs[i] = left * weights[i] / total if total else Fraction(left, len(rest))
    return probs


def random_weights(rng: np.random.Generator) -> list[int]:
    size = int(rng.integers(1, 9))
    return [int(w) for w in rng.choice([0, 1, 2, 3, 7, 40], size)]


def test_inclusion_probs_against_exact_arithmetic() -> None:
    rng = np.random.default_rng(0)
    seen_certain = seen_zero = 0
    for _ in range(600):
        weights = random_weights(rng)
        count = int(rng.integers(0, len(weights) + 1))
        got = inclusion_probs(np.asarray(weights, np.float64), count)
        want = slow_inclusion_probs([Fraction(w) for w in weights], count)
        assert got == pytest.approx([float(w) for w in want], abs=1e-12)
        assert got.sum() == pytest.approx(count)
        seen_certain += 0 < sum(w == 1 for w in want) < count
        seen_zero += count > np.count_nonzero(weights)
    assert seen_certain > 30 and seen_zero > 30


def all_draws(probs: np.ndarray) -> list[tuple[float, list[int]]]:
    """Every draw that some start gives, with the length of the starts that give it: between two
    fractional parts of the running sums nothing changes."""
    parts = np.cumsum(probs) % 1.0
    parts = np.unique(np.concatenate([[0.0, 1.0], parts[(parts > 1e-12) & (parts < 1 - 1e-12)]]))
    middles = (parts[1:] + parts[:-1]) / 2
    return [
        (float(width), systematic(probs, float(middle)).tolist())
        for width, middle in zip(np.diff(parts), middles, strict=True)
    ]


def test_integrated_over_the_start_each_item_has_exactly_its_probability() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        weights = np.asarray(random_weights(rng), np.float64)
        count = int(rng.integers(1, len(weights) + 1))
        probs = inclusion_probs(weights, count)
        found = np.zeros(len(weights))
        for width, draw in all_draws(probs):
            assert len(set(draw)) == len(draw) == count
            found[draw] += width
        assert found == pytest.approx(probs, abs=1e-9)


def test_weighted_sums_over_a_draw_are_unbiased() -> None:
    """E[sum over the draw of x / pi] is the sum over all x: exactly, over all starts. With
    w = n / (N pi) the mean of w x over a draw therefore estimates the mean of all."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        size = int(rng.integers(2, 9))
        weights, values = rng.exponential(1.0, size) + 0.01, rng.normal(size=size)
        count = int(rng.integers(1, size + 1))
        probs = inclusion_probs(weights, count)
        estimate = sum(
            width * np.mean([count / (size * probs[i]) * values[i] for i in draw])
            for width, draw in all_draws(probs)
        )
        assert estimate == pytest.approx(values.mean(), abs=1e-9)


def test_places_are_made_distinct() -> None:
    assert distinct(np.asarray([0, 0, 1, 4]), 5).tolist() == [0, 1, 2, 4]
    assert distinct(np.asarray([3, 4, 4]), 5).tolist() == [2, 3, 4]
    assert distinct(np.asarray([0, 5]), 5).tolist() == [0, 4]
    assert distinct(np.zeros(0, np.int64), 5).tolist() == []


def test_starts_at_the_edges() -> None:
    probs = inclusion_probs(np.full(10, 0.1), 3)
    for start in (0.0, np.nextafter(1.0, 0.0)):
        draw = systematic(probs, start)
        assert len(set(draw.tolist())) == 3 and draw.max() < 10
