"""The estimate against sums over every trial ever seen, and against the paper's recursion."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_r1.config_curriculum import SuccessConfig
from buffer.curriculum.posterior import Evidence, Posterior

GROUPS = st.tuples(
    st.integers(0, 4), st.integers(0, 8), st.integers(8, 9), st.integers(0, 40)
)  # prompt, successes, trials, version


@settings(max_examples=100, deadline=None)
@given(st.lists(GROUPS, max_size=30), st.sampled_from([0.0, 3.0, 50.0]), st.integers(0, 60))
def test_evidence_is_a_decayed_sum_in_any_order(groups, half_life: float, now: int) -> None:
    evidence = Evidence(5, half_life)
    wins, losses, newest = defaultdict(float), defaultdict(float), defaultdict(int)
    for prompt, successes, trials, version in groups:
        evidence.add(prompt, successes, trials, version)
        newest[prompt] = max(newest[prompt], version)
    for prompt, successes, trials, version in groups:
        at = max(now, newest[prompt])  # what is newer than now has not begun to decay
        weight = 2.0 ** (-(at - version) / half_life) if half_life else 1.0
        wins[prompt] += weight * successes
        losses[prompt] += weight * (trials - successes)
    got_wins, got_losses = evidence.at(np.arange(5), now)
    assert got_wins == pytest.approx([wins[i] for i in range(5)], rel=1e-5, abs=1e-6)
    assert got_losses == pytest.approx([losses[i] for i in range(5)], rel=1e-5, abs=1e-6)


def test_it_is_the_rule_of_mopps_with_forgetting_by_distance() -> None:
    """a <- l a + (1 - l) a0 + s with l = lambda^(D / H), and the same once more when it is read."""
    lam, horizon, a0, b0 = 0.7, 12.0, 1.0, 1.0
    half_life = horizon * np.log(0.5) / np.log(lam)
    posterior = Posterior(
        np.zeros(3, np.uint8), 1, SuccessConfig(half_life=half_life, level_prior=0.0)
    )
    a, b, last = a0, b0, 0
    for successes, trials, version in [(3, 8, 2), (8, 8, 5), (0, 8, 5), (1, 4, 30)]:
        posterior.add(1, successes, trials, version)
        kept = lam ** ((version - last) / horizon)
        a = kept * a + (1 - kept) * a0 + successes
        b = kept * b + (1 - kept) * b0 + trials - successes
        last = version
    kept = lam ** ((44 - last) / horizon)
    expected = kept * a + (1 - kept) * a0, kept * b + (1 - kept) * b0
    got = posterior.at(np.arange(3), 44)
    assert (got[0][1], got[1][1]) == pytest.approx(expected, rel=1e-5)
    assert got[0][0] == got[1][0] == got[0][2] == 1.0
    assert posterior.mean(1, 44) == pytest.approx(expected[0] / sum(expected), rel=1e-5)


def test_the_level_is_the_prior_of_prompts_that_were_not_seen() -> None:
    """Of level 0, 6 of 8 right: its mean is 7 / 10, and 4 trials' worth of it go before."""
    levels = np.asarray([0, 0, 1], np.uint8)
    posterior = Posterior(levels, 2, SuccessConfig(half_life=0.0, level_prior=4.0))
    posterior.add(0, 6, 8, 0)
    assert posterior.level_means(9) == pytest.approx([0.7, 0.5])
    a, b = posterior.at(np.arange(3), 9)
    assert a == pytest.approx([1 + 2.8 + 6, 1 + 2.8, 3.0])
    assert b == pytest.approx([1 + 1.2 + 2, 1 + 1.2, 3.0])
