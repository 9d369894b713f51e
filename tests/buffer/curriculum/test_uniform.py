"""The uniform curriculum: every prompt once per epoch, in an order that seed and epoch fix."""

import numpy as np
import pytest

from buffer.curriculum import make_curriculum, permutation
from tests.buffer.curriculum.helpers import make_mixture, outcome, teach
from tests.buffer.fakes import make_config, make_prompt

SIZE = 7


def land(mixture, prompts) -> None:
    for prompt in prompts:
        mixture.abandoned(int(prompt))


@pytest.mark.parametrize("kept", [0, permutation.KEPT])
@pytest.mark.parametrize("lands", [True, False])
def test_every_prompt_once_per_epoch(
    kept: int, lands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not groups close: where all prompts are in flight, they are drawn twice."""
    monkeypatch.setattr(permutation, "KEPT", kept)
    mixture = make_mixture(SIZE)
    epochs = []
    for _ in range(5):
        epochs.append([int(mixture.sample(1, 0)[0]) for _ in range(SIZE)])
        if lands:
            land(mixture, epochs[-1])
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert mixture.metrics()["curriculum/uniform/epoch"] == 5.0
    assert mixture.metrics()["curriculum/repeated"] == (0 if lands else 4 * SIZE)


def test_the_order_is_that_of_the_seed_and_one_by_one_that_of_many() -> None:
    first, same, other = (make_mixture(SIZE, seed) for seed in (1, 1, 2))
    drawn = [int(first.sample(1, 0)[0]) for _ in range(14)]
    assert drawn == same.sample(14, 0).tolist() != other.sample(14, 0).tolist()
    expected = [np.random.default_rng([1, epoch]).permutation(SIZE) for epoch in range(2)]
    assert drawn == np.concatenate(expected).tolist()


def test_what_is_in_flight_at_its_turn_is_owed() -> None:
    """The one that does not land is passed over in the second epoch, and goes first once it has
    landed; every other prompt keeps its place."""
    mixture = make_mixture(SIZE)
    first = mixture.sample(SIZE, 0).tolist()
    orders = [np.random.default_rng([0, epoch]).permutation(SIZE).tolist() for epoch in range(3)]
    late = orders[1][2]
    land(mixture, [prompt for prompt in first if prompt != late])
    second = [int(mixture.sample(1, 0)[0]) for _ in range(4)]
    assert second == [prompt for prompt in orders[1] if prompt != late][:4]
    land(mixture, [late])
    third = [int(mixture.sample(1, 0)[0]) for _ in range(3)]
    assert third == [late, *orders[1][5:]]


def test_retired_prompts_are_left_out() -> None:
    mixture = make_mixture(SIZE, retire={"threshold": 0.8, "trials": 8, "review": 0.0})
    teach(mixture, [8, 8, 8, 0, 0, 0, 0])
    for _ in range(3):
        drawn = mixture.sample(4, 0).tolist()
        assert sorted(drawn) == [3, 4, 5, 6]
        land(mixture, drawn)


def test_twice_at_the_same_time_if_that_does_not_matter() -> None:
    mixture = make_mixture(3, skip_in_flight=False)
    drawn = mixture.sample(9, 0)
    assert sorted(drawn.tolist()) == sorted([0, 1, 2] * 3)
    assert make_mixture(3, skip_in_flight=False).sample(3, 0).tolist() == drawn[:3].tolist()


def test_without_a_mixture_it_is_the_default_of_the_schema() -> None:
    prompts = [make_prompt(i) for i in range(SIZE)]
    curriculum = make_curriculum(make_config(), prompts)
    expected = make_mixture(SIZE, mix={"uniform": 0.3})
    drawn = curriculum.sample(9, 0)
    assert drawn.tolist() == expected.sample(9, 0).tolist()
    curriculum.observe(outcome(int(drawn[0]), 8))
    expected.observe(outcome(int(drawn[0]), 0))  # success changes nothing
    assert curriculum.sample(9, 0).tolist() == expected.sample(9, 0).tolist()
