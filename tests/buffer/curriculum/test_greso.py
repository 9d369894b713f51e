"""GRESO's skipping against its formula, and that it goes with every component."""

import numpy as np
import pytest

from async_r1.config_curriculum import GresoConfig
from buffer.curriculum.greso import Greso
from buffer.curriculum.roster import Roster
from buffer.curriculum.walk import Walk
from tests.buffer.curriculum.helpers import check_frequencies, counts, make_mixture, outcome


def test_the_chance_not_to_be_skipped() -> None:
    """max(p^z, 0.01), z since the last group with variance, p by the kind of the last one."""
    gate = Greso(GresoConfig(groups=10_000), 4, seed=0)
    gate.easy, gate.hard = 0.6, 0.3
    streaks = [(0, [8, 8, 4]), (1, [4, 8, 8]), (2, [0, 0, 0]), (3, [8] * 200)]
    for prompt, history in streaks:
        for right in history:
            gate.observe(outcome(prompt, right))
    expected = [1.0, 0.6**2, 0.3**3, 0.01]
    prompts = np.arange(4)
    assert gate.chance(prompts) == pytest.approx(expected)
    passed = np.sum([gate.passes(prompts, key) for key in range(4000)], axis=0)
    deviation = np.sqrt(4000 * np.asarray(expected) * (1 - np.asarray(expected)))
    assert np.all(np.abs(passed - 4000 * np.asarray(expected)) <= 5 * deviation)
    assert gate.passes(prompts[2:3], 7)[0] == gate.passes(prompts, 7)[2]


def test_equal_rewards_that_are_neither_right_nor_wrong_count_by_the_majority() -> None:
    gate = Greso(GresoConfig(), 2, seed=0)
    gate.easy, gate.hard = 0.6, 0.3
    gate.observe(outcome(0, 5, zero_variance=True))
    gate.observe(outcome(1, 3, zero_variance=True))
    assert gate.chance(np.arange(2)) == pytest.approx([0.6, 0.3])


def test_p_follows_the_shares_of_zero_variance() -> None:
    """Targets of 25 %: 1/3 of it all right, 2/3 all wrong. Slow twin over random groups."""
    options = GresoConfig(groups=5, step=0.2, initial=0.5)
    gate = Greso(options, 8, seed=0)
    rng = np.random.default_rng(0)
    easy, hard, window = 0.5, 0.5, []
    seen = set()
    for _ in range(300):
        right = int(rng.choice([0, 4, 8], p=[0.15, 0.77, 0.08]))
        gate.observe(outcome(int(rng.integers(8)), right))
        window.append(right)
        if len(window) == 5:
            easy += -0.2 if window.count(8) / 5 > 0.25 / 3 else 0.2
            hard += -0.2 if window.count(0) / 5 > 0.25 * 2 / 3 else 0.2
            easy, hard = (min(max(p, 0.05), 0.95) for p in (easy, hard))
            window = []
        assert gate.easy == pytest.approx(easy) and gate.hard == pytest.approx(hard)
        seen |= {round(easy, 2), round(hard, 2)}
    assert {0.05, 0.95} <= seen


@pytest.mark.parametrize("name", ["uniform", "learnability", "adarft", "plr", "thompson"])
def test_every_component_skips(name: str) -> None:
    """A prompt of a long streak is drawn hardly ever; one of variance is."""
    mixture = make_mixture(4, mix={name: 1.0}, greso={"enabled": True, "initial": 0.05})
    for prompt, right in enumerate([0, 4, 4, 8]):
        for _ in range(4):
            mixture.opened(prompt, 0)
            mixture.observe(outcome(prompt, right))
    found = counts(mixture, 400)
    assert found[[0, 3]].sum() < 40 and found[[1, 2]].min() > 20
    if name != "uniform" and name != "adarft":
        assert mixture.metrics()["curriculum/skipped_frac"] in (0.25, 0.5)


def test_the_walk_keeps_the_rate_of_each_prompt() -> None:
    """In 1,000 epochs each prompt comes as often as it is not skipped."""
    mixture = make_mixture(3, greso={"enabled": True, "step": 0.0})
    for prompt, history in enumerate([[8], [0, 0], [4]]):
        for right in history:
            mixture.opened(prompt, 0)
            mixture.observe(outcome(prompt, right))
    check_frequencies(counts(mixture, 1750), [0.5, 0.25, 1.0])


def test_a_walk_asks_the_gate_once_for_each_place() -> None:
    """What it let through stays the next, also in a restored walk, whatever it would say later."""
    open_ = True

    def passes(prompts: np.ndarray, key: int) -> np.ndarray:
        return np.full(len(prompts), open_)

    def walk() -> Walk:
        return Walk(Roster(9), seed=0, skip_in_flight=True, passes=passes)

    first, restored = walk(), walk()
    expected = first.next()
    assert expected is not None
    open_ = False
    restored.load_state_dict(first.state_dict())
    assert first.next() == restored.next() == expected
    assert walk().next() is None
    first.opened(expected)
    assert first.next() is None
