"""The shaping terms against their equations in slow Python."""

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_r1.config_task import RewardConfig, TaskConfig
from async_r1.errors import ConfigError
from async_r1.rewards import length_rewards, make_rewards
from async_r1.rewards.language import SCRIPTS, language_consistency, scripts_of
from async_r1.rewards.overlong import overlong_punishment
from async_r1.rewards.repetition import repetition_penalty
from async_r1.tasks import Completion, load_task

TASK = load_task(TaskConfig())
PROMPT = TASK.get("arithmetic/2395+972")


def test_overlong_punishment_is_equation_13() -> None:
    """At every length, with DAPO's own numbers among others."""
    for longest, cache in [(20480, 4096), (256, 51), (10, 1), (10, 10)]:
        for length in range(longest + 50):
            if length <= longest - cache:
                expected = Fraction(0)
            elif length <= longest:
                expected = Fraction((longest - cache) - length, cache)
            else:
                expected = Fraction(-1)
            got = overlong_punishment(length, max_tokens=longest, cache_tokens=cache)
            assert got == pytest.approx(float(expected), abs=1e-12), (longest, cache, length)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=12)
)  # fmt: skip
def test_length_rewards_are_kimis(members: list[tuple[int, bool]]) -> None:
    lengths, correct = [m[0] for m in members], [m[1] for m in members]
    got = length_rewards(lengths, correct)
    for i, (length, right) in enumerate(members):
        if max(lengths) == min(lengths):
            assert got[i] == 0
            continue
        lam = Fraction(1, 2) - Fraction(length - min(lengths), max(lengths) - min(lengths))
        assert got[i] == pytest.approx(float(lam if right else min(Fraction(0), lam)), abs=1e-12)


def test_length_rewards_by_hand() -> None:
    assert length_rewards([10, 20, 30], [True, True, True]) == [0.5, 0.0, -0.5]
    assert length_rewards([10, 20, 30], [False, False, False]) == [0.0, 0.0, -0.5]
    assert length_rewards([], []) == []


@settings(deadline=None)
@given(st.lists(st.sampled_from("a b c A".split()), max_size=14), st.integers(1, 5))
def test_repetition_counts_what_occurred_before(words: list[str], ngram: int) -> None:
    grams = [" ".join(words[i : i + ngram]).lower() for i in range(len(words) - ngram + 1)]
    repeated = sum(count - 1 for count in Counter(grams).values())
    expected = -repeated / len(grams) if grams else 0.0
    assert repetition_penalty("  ".join(words), ngram) == pytest.approx(expected, abs=1e-12)


def test_repetition_by_hand() -> None:
    assert repetition_penalty("so it is so it is so it is", 3) == pytest.approx(-4 / 7)
    assert repetition_penalty("one two", 3) == 0.0 and repetition_penalty("", 1) == 0.0


@pytest.mark.parametrize(
    "text, language, expected",
    [
        ("we add the numbers", "en", 1.0),
        ("we add \u6211\u4eec", "en", 0.5),
        ("we add \u6211\u4eec", "zh", 0.5),
        ("\u6211\u4eec\u52a0 up", "zh", 0.75),
        ("\u043c\u044b add", "ru", 0.5),
        ("\u3053\u308c \u30c6 \u6f22 is", "ja", 0.8),
        ("\uc6b0\ub9ac\ub294 \ub354\ud55c\ub2e4 now", "ko", 2 / 3),
        ("l\u2019\u00e9t\u00e9 it's na\u00efve", "fr", 1.0),
        ("nai\u0308ve", "en", 1.0),  # a combining mark is part of its word
        # what is no word: numbers, formulas, commands, code, variables, the answer
        ("12 + 3.5 = \u6211", "zh", 1.0),
        ("$abc + def$ \\frac{1}{2} \\(xyz\\) \\[uvw\\] \u6211", "zh", 1.0),
        ("\\begin{align*}lorem\\end{align*} \u6211", "zh", 1.0),
        ("```print(value)``` \u6211", "zh", 1.0),
        ("x y \u03b1 \u6211", "zh", 1.0),
        ("<think>\u6211</think><answer>twelve words here</answer>", "zh", 1.0),
        ("<think></think><answer>words</answer>", "en", 0.0),
        ("1 + 1 = 2", "en", 0.0),
        ("", "en", 0.0),
        # what script cannot tell
        ("nous ajoutons", "en", 1.0),
    ],
)
def test_language_consistency(text: str, language: str, expected: float) -> None:
    assert language_consistency(text, language) == pytest.approx(expected)


def test_language_of_a_random_mixture_is_its_share() -> None:
    rng = random.Random(0)
    english, chinese = ["we", "then", "so", "it's"], ["\u6211", "\u52a0", "\u6240"]
    for _ in range(50):
        count = rng.randint(1, 9), rng.randint(0, 9)
        words = rng.choices(english, k=count[0]) + rng.choices(chinese, k=count[1])
        rng.shuffle(words)
        share = count[0] / sum(count)
        assert language_consistency(" 7 ".join(words), "en") == pytest.approx(share)
        assert language_consistency(" ".join(words), "zh") == pytest.approx(1 - share)


def test_languages_are_codes_and_a_wrong_one_is_named() -> None:
    assert all(len(code) == 2 for code in SCRIPTS)
    with pytest.raises(ConfigError, match=r"reward\.target_language has no value 'eng'"):
        scripts_of("eng")


def test_terms_of_the_configuration_enter_the_total() -> None:
    """One completion with every term, weight by weight; cut ones are punished all the same."""
    cfg = RewardConfig(
        accuracy=1.0, format=0.5, language=0.25, overlong=2.0, overlong_cache=10,
        repetition=4.0, repetition_ngram=1,
    )  # fmt: skip
    rewards = make_rewards(cfg, TaskConfig(max_new_tokens=20), TASK)
    text = "<think>so so \u6211</think><answer>3367</answer>"
    terms = {"accuracy": 1.0, "format": 1.0, "language": 2 / 3, "overlong": -0.5}
    terms["repetition"] = repetition_penalty(text, 1)
    got = rewards.score(PROMPT, Completion(text, 15, truncated=False))
    total = 1.0 + 0.5 + 0.25 * 2 / 3 - 2.0 * 0.5 + 4.0 * terms["repetition"]
    assert got == pytest.approx({**terms, "task": 1.0, "total": total})
    cut = rewards.score(PROMPT, Completion(text, 25, truncated=True))
    assert [cut[name] for name in ("accuracy", "format", "language")] == [0.0, 0.0, 0.0]
    assert cut["total"] == pytest.approx(-2.0 + 4.0 * terms["repetition"])


def test_the_overlong_cache_is_a_fifth_by_default() -> None:
    rewards = make_rewards(RewardConfig(overlong=1.0), TaskConfig(max_new_tokens=100), TASK)
    values = {n: rewards.score(PROMPT, Completion("", n, False))["overlong"] for n in (80, 90, 100)}
    assert values == {80: 0.0, 90: -0.5, 100: -1.0}
