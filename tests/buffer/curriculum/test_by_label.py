"""kimi_curriculum and adarft: which labels they draw, and how that moves."""

import math
from typing import Any

import numpy as np
import pytest

from buffer.curriculum.components.adarft import AdaRft
from buffer.curriculum.components.kimi_curriculum import KimiCurriculum
from buffer.curriculum.levels import Levels
from buffer.curriculum.mixture import Mixture
from tests.buffer.curriculum.helpers import check_frequencies, counts, make_mixture, outcome, teach

WINDOWS = [
    {"version": 10, "low": 0.0, "high": 0.5},
    {"version": 30, "low": 0.5, "high": 1.0},
]
LABELS = [5, 1, 4, 2, 3, 6, 8, 7]  # prompt of rank r: see ORDER
ORDER = np.argsort(LABELS)


def component(mixture: Mixture) -> Any:
    (found,) = mixture._components
    return found


def by_label(windows: list[dict[str, Any]], labels: list[int] = LABELS) -> Mixture:
    return make_mixture(labels, mix={"kimi_curriculum": 1.0}, kimi_curriculum={"windows": windows})


@pytest.mark.parametrize(
    ("version", "ranks"), [(0, 4), (10, 4), (20, 4), (30, 4), (99, 4), (25, 5)]
)
def test_the_window_moves_linearly_over_versions(version: int, ranks: int) -> None:
    """Of 8 prompts: positions 0 to 3 at first, 2 to 5 in the middle, 4 to 7 at last; at version 25
    it is 3 to 6.999, rounded outwards."""
    mixture = by_label(WINDOWS)
    low = np.interp(version, [10, 30], [0, 4])
    expected = np.zeros(8)
    expected[ORDER[math.floor(low) : math.ceil(low + 4)]] = 1.0
    assert expected.sum() == ranks - (version == 25)
    check_frequencies(counts(mixture, 1000, version), expected)
    metrics = mixture.metrics()
    assert metrics["curriculum/window/low"] == pytest.approx(low / 8)
    assert metrics["curriculum/window/high"] == pytest.approx(low / 8 + 0.5)


def test_figure_9_of_kimi() -> None:
    """Uniform over all, and from version 24 on the hard half only."""
    windows = [
        {"version": 23, "low": 0.0, "high": 1.0},
        {"version": 24, "low": 0.5, "high": 1.0},
    ]
    check_frequencies(counts(by_label(windows), 1000, 23), np.ones(8))
    hard = np.zeros(8)
    hard[ORDER[4:]] = 1.0
    check_frequencies(counts(by_label(windows), 1000, 24), hard)


def test_a_window_in_flight_altogether_falls_back_to_others() -> None:
    mixture = by_label([{"version": 0, "low": 0.0, "high": 0.25}])
    drawn = mixture.sample(4, 0).tolist()
    assert set(drawn[:2]) == set(ORDER[:2].tolist()) and len(set(drawn)) == 4
    assert mixture.metrics()["curriculum/share/fallback"] == 0.5


def test_a_large_window_is_drawn_without_looking_at_all_of_it() -> None:
    """5,000 prompts in the window: every tenth of it is drawn alike, none outside it."""
    labels = np.arange(10_000) % 10
    mixture = by_label([{"version": 0, "low": 0.5, "high": 1.0}], labels.tolist())
    found = np.zeros(10)
    for _ in range(60):
        drawn = mixture.sample(64, 0)
        assert len(set(drawn.tolist())) == 64
        np.add.at(found, labels[drawn], 1)
        for prompt in drawn.tolist():
            mixture.abandoned(prompt)
    check_frequencies(found, np.asarray([0] * 5 + [1] * 5))


def test_the_target_of_adarft_by_hand() -> None:
    """T <- clip(T + 50 tanh(2 (R - 0.5)), 0, 100), two groups at a time."""
    mixture = make_mixture([1, 2, 3], mix={"adarft": 1.0}, adarft={"groups": 2, "initial": 20.0})
    expected = 20.0
    for right in [(8, 8), (2, 4), (0, 0), (0, 0), (8, 8), (8, 8), (8, 8), (8, 8)]:
        for one in right:
            teach(mixture, [one])
        mixture.abandoned(int(mixture.sample(1, 0)[0]))
        change = 50.0 * math.tanh(2.0 * (sum(right) / 16 - 0.5))
        expected = min(max(expected + change, 0.0), 100.0)
        assert mixture.metrics()["curriculum/adarft/target"] == pytest.approx(expected)
    assert expected == 100.0


@pytest.mark.parametrize(("target", "nearest"), [(0.0, [1, 3]), (40.0, [0, 2]), (100.0, [4])])
def test_adarft_draws_the_labels_nearest_to_its_target(target: float, nearest: list[int]) -> None:
    """Labels 1, 3 and 6 are difficulties 0, 40 and 100; then the next nearest."""
    options = {"initial": target}
    mixture = make_mixture([3, 1, 3, 1, 6], mix={"adarft": 1.0}, adarft=options)
    expected = np.zeros(5)
    expected[nearest] = 1.0
    if len(nearest) > 1:
        check_frequencies(counts(mixture, 1000), expected)
    drawn = mixture.sample(5, 0).tolist()
    labels = [[3, 1, 3, 1, 6][prompt] for prompt in drawn]
    distance = [abs({1: 0.0, 3: 40.0, 6: 100.0}[label] - target) for label in labels]
    assert distance == sorted(distance) and sorted(drawn) == [0, 1, 2, 3, 4]


def test_both_leave_out_what_is_retired() -> None:
    for name in ("adarft", "kimi_curriculum"):
        mixture = make_mixture(
            [1, 1, 2, 2],
            mix={name: 1.0},
            kimi_curriculum={"windows": [{"version": 0, "low": 0.0, "high": 0.5}]},
            retire={"threshold": 0.8, "trials": 8, "review": 0.0},
        )
        assert isinstance(component(mixture), AdaRft | KimiCurriculum)
        mixture.opened(0, 0)
        mixture.observe(outcome(0, 8))
        assert counts(mixture, 50).tolist() == [0, 50, 0, 0]


def test_labels_of_one_level_and_many() -> None:
    levels = Levels(np.asarray([7, 7, 7]))
    assert levels.code.tolist() == [0, 0, 0] and levels.edges().tolist() == [0, 3]
    many = Levels(np.arange(1000)[::-1])
    assert many.code.dtype.itemsize == 2 and many.order.tolist() == list(range(999, -1, -1))
