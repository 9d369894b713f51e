"""How often each component draws a prompt, against its closed form."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from buffer.curriculum.mixture import Mixture
from tests.buffer.curriculum.helpers import (
    check_frequencies,
    counts,
    make_mixture,
    outcome,
    teach,
)

RIGHT = [0, 1, 2, 4, 6, 8, None]  # of 8; the last prompt is never seen
P = np.asarray([(1 + r) / 10 if r is not None else 0.5 for r in RIGHT])  # posterior means
DRAWS = 2500


def taught(name: str, seed: int = 0, **options: Any) -> Mixture:
    """One component on posterior means, by default."""
    options.setdefault("success", {"estimate": "mean"})
    mixture = make_mixture(len(RIGHT), seed, mix={name: 1.0}, **options)
    teach(mixture, RIGHT)
    return mixture


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_learnability(power: float) -> None:
    mixture = taught("learnability", learnability={"power": power})
    scores = (P * (1 - P)) ** power
    check_frequencies(counts(mixture, DRAWS), scores)
    effective = mixture.metrics()["curriculum/effective_prompts/learnability"]
    assert effective == pytest.approx(scores.sum() ** 2 / (scores**2).sum(), rel=1e-5)


def test_kimi_priority_is_one_minus_success() -> None:
    mixture = taught("kimi_priority", kimi_priority={"min_success": 0.0})
    check_frequencies(counts(mixture, DRAWS), 1 - P)


def test_kimi_priority_has_a_floor_and_turns_down_what_is_never_solved() -> None:
    options = {"floor": 0.3, "min_success": 0.25, "unsolved_weight": 0.5}
    expected = np.where(P <= 0.25, 0.5, 1.0) * np.maximum(1 - P, 0.3)
    mixture = taught("kimi_priority", kimi_priority=options)
    check_frequencies(counts(mixture, DRAWS), expected)
    only = taught("kimi_priority", kimi_priority={**options, "unsolved_weight": 0.0})
    check_frequencies(counts(only, DRAWS), np.where(P <= 0.25, 0.0, np.maximum(1 - P, 0.3)))


def test_kimi_priority_counts_trials_in_a_row_without_success() -> None:
    """16 trials of prompt 0 and 24 of prompt 1 without success since its last one."""
    options = {"min_success": 0.0, "unsolved_trials": 20, "unsolved_weight": 0.1}
    mixture = make_mixture(3, mix={"kimi_priority": 1.0}, kimi_priority=options,
                           success={"estimate": "mean"})  # fmt: skip
    for prompt, right in [(0, 0), (0, 0), (1, 0), (1, 1), (1, 0), (1, 0), (1, 0), (2, 4)]:
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, right))
    scores = np.asarray([1 - 1 / 18, 0.1 * (1 - 2 / 42), 0.5])
    check_frequencies(counts(mixture, DRAWS), scores)


def test_pools() -> None:
    options = {"easy": 0.5, "normal": 1.0, "hard": 0.25, "easy_at": 0.7, "hard_at": 0.2}
    mixture = taught("pools", pools=options)
    check_frequencies(counts(mixture, DRAWS), [0.25, 0.25, 1, 1, 0.5, 0.5, 1])


def test_thompson_is_nearest_to_the_target_as_often_as_slow_draws_are() -> None:
    """Two independent samples of the same law: 2,500 of it and 40,000 of numpy's Beta."""
    mixture = taught("thompson", thompson={"target": 0.6})
    rng = np.random.default_rng(1)
    right = np.asarray([r or 0 for r in RIGHT])
    wrong = np.asarray([8 - r if r is not None else 0 for r in RIGHT])
    draws = rng.beta(1 + right, 1 + wrong, size=(40_000, len(RIGHT)))
    nearest = np.abs(draws - 0.6).argmin(1)
    expected = np.bincount(nearest, minlength=len(RIGHT)) + 1.0
    check_frequencies(counts(mixture, DRAWS), expected)


def test_thompson_draws_of_learnability() -> None:
    """Scores of a Thompson draw, by slow draws of numpy's Beta."""
    mixture = taught("learnability", success={"estimate": "thompson"})
    rng = np.random.default_rng(1)
    right = np.asarray([r or 0 for r in RIGHT])
    wrong = np.asarray([8 - r if r is not None else 0 for r in RIGHT])
    p = rng.beta(1 + right, 1 + wrong, size=(40_000, len(RIGHT)))
    scores = p * (1 - p)
    check_frequencies(counts(mixture, DRAWS), (scores / scores.sum(1, keepdims=True)).mean(0))


def test_old_evidence_fades_when_prompts_are_drawn() -> None:
    mixture = make_mixture(2, mix={"kimi_priority": 1.0}, kimi_priority={"min_success": 0.0},
                           success={"estimate": "mean", "half_life": 10.0})  # fmt: skip
    teach(mixture, [8, 0])
    faded = np.asarray([1 - 3 / 4, 1 - 1 / 4])  # of 8 trials, 2 are left after two half-lives
    check_frequencies(counts(mixture, DRAWS, version=20), faded)


def test_several_at_once_are_drawn_one_after_the_other_among_those_left() -> None:
    """Ordered pairs against p_i p_j / (1 - p_i)."""
    scores = P * (1 - P) / (P * (1 - P)).sum()
    mixture = taught("learnability")
    pairs = {pair: 0 for pair in permutations(range(len(RIGHT)), 2)}
    for _ in range(4000):
        first, second = mixture.sample(2, 0).tolist()
        pairs[first, second] += 1
        mixture.abandoned(first)
        mixture.abandoned(second)
    expected = [scores[i] * scores[j] / (1 - scores[i]) for i, j in pairs]
    check_frequencies(np.asarray(list(pairs.values()), float), np.asarray(expected))


def test_a_mixture_is_the_weighted_sum_of_its_components() -> None:
    mix = {"learnability": 3.0, "pools": 1.0}
    mixture = make_mixture(len(RIGHT), mix=mix, success={"estimate": "mean"})
    teach(mixture, RIGHT)
    learn = P * (1 - P) / (P * (1 - P)).sum()
    pools = np.where((P <= 0.25) | (P >= 0.75), 0.2, 1.0)
    check_frequencies(counts(mixture, DRAWS), 0.75 * learn + 0.25 * pools / pools.sum())
    metrics = mixture.metrics()
    shares = [metrics[f"curriculum/share/{name}"] for name in ("learnability", "pools")]
    assert shares == pytest.approx([0.75, 0.25], abs=0.1)
    assert metrics["curriculum/share/fallback"] == 0.0 and sum(shares) == pytest.approx(1.0)


def test_the_default_mixture_draws_as_j2_has_it() -> None:
    """.65 learnability + .20 (1 - p) over p > .05 + .15 uniform, on Thompson draws."""
    mixture = make_mixture(
        len(RIGHT), mix={"learnability": 0.65, "kimi_priority": 0.2, "uniform": 0.15}
    )
    teach(mixture, RIGHT)
    rng = np.random.default_rng(1)
    right = np.asarray([r or 0 for r in RIGHT])
    wrong = np.asarray([8 - r if r is not None else 0 for r in RIGHT])
    p = rng.beta(1 + right, 1 + wrong, size=(40_000, len(RIGHT)))
    learn, kimi = p * (1 - p), np.where(p > 0.05, np.maximum(1 - p, 0.01), 0.0)
    shares = [0.65 * s / s.sum(1, keepdims=True) for s in (learn,)]
    shares += [0.20 * kimi / kimi.sum(1, keepdims=True)]
    expected = sum(share.mean(0) for share in shares) + 0.15 / len(RIGHT)
    check_frequencies(counts(mixture, DRAWS), expected)


def test_of_many_prompts_a_random_choice_is_scored_none_more_likely() -> None:
    """With 64 candidates of 150 prompts every prompt is as likely as any other of its score."""
    mixture = make_mixture(150, mix={"pools": 1.0}, candidates=64, success={"estimate": "mean"})
    teach(mixture, [8] * 75 + [4] * 75)
    found = counts(mixture, 5000)
    check_frequencies(found[:75], np.ones(75))
    check_frequencies(found[75:], np.ones(75))
    assert found[75:].sum() / found.sum() == pytest.approx(1 / 1.2, abs=0.02)
