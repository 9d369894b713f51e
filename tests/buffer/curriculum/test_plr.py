"""Prioritized level replay against a slow one that enumerates how ties may be ranked."""

from itertools import permutations

import numpy as np
import pytest

from tests.buffer.curriculum.helpers import check_frequencies, counts, make_mixture, outcome

BETA, RHO = 0.7, 0.3


def slow(scores: list[float], waited: list[float]) -> np.ndarray:
    """(1 - rho) P_S + rho P_C, averaged over all rankings that the scores allow."""
    found, rankings = np.zeros(len(scores)), 0
    for ranking in permutations(range(len(scores))):
        ordered = [scores[prompt] for prompt in ranking]
        if ordered != sorted(scores, reverse=True):
            continue
        rankings += 1
        for place, prompt in enumerate(ranking):
            found[prompt] += (1 / (place + 1)) ** (1 / BETA)
    total = found.sum()
    return (1 - RHO) * found / total + RHO * np.asarray(waited) / sum(waited)


def test_probabilities_of_prompts_with_scores() -> None:
    """Each draw starts from the same restored state: drawing changes the waiting times."""
    options = {"beta": BETA, "staleness": RHO, "new": 0.5}
    mixture = make_mixture(5, mix={"plr": 1.0}, plr=options)
    scores = [0.1, 0.5, 0.5, 0.0, 0.2]
    for number, prompt in enumerate([0, 1, 2, 3, 4, 0, 0, 1], 1):
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, 4, abs_advantage=scores[prompt]))
        assert mixture._num_drawn == number
    mixture._note_pending()
    state = mixture.state_dict()
    found = np.zeros(5)
    plr = mixture._components[0]
    for draw in range(4000):
        mixture.load_state_dict(state)
        mixture._seed = draw  # of the generator; the state is the same
        (prompt,) = mixture.sample(1, 0).tolist()
        found[prompt] += 1
    waited = [8 - last for last in (7, 8, 3, 4, 5)]
    check_frequencies(found, slow(scores, waited))
    assert plr.state_dict()["prompts"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("new", "share"), [(0.5, 0.5), (0.2, 0.2), (1.0, 1.0)])
def test_new_prompts_have_their_share_until_all_were_seen(new: float, share: float) -> None:
    mixture = make_mixture(6, mix={"plr": 1.0}, plr={"new": new, "staleness": 0.0})
    for prompt in (0, 1):
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, 4))
    found = counts(mixture, 2000)  # all abandoned: nothing new gets a score
    assert found[2:].sum() / 2000 == pytest.approx(share, abs=0.04)
    check_frequencies(found[2:], np.ones(4))
    for prompt in (2, 3, 4, 5):
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, 0))
    assert counts(mixture, 200)[:2].sum() > 180  # the highest scores, at beta 0.1


def test_before_anything_was_seen_all_are_new() -> None:
    mixture = make_mixture(6, mix={"plr": 1.0}, plr={"new": 0.1})
    assert sorted(mixture.sample(6, 0).tolist()) == [0, 1, 2, 3, 4, 5]
    assert mixture.metrics()["curriculum/share/plr"] == 1.0
