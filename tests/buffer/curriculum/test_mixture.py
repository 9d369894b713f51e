"""The whole curriculum in lockstep with a slow twin; its state; and what a journal replays."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_r1.errors import ConfigError
from buffer.curriculum.mixture import Mixture
from buffer.curriculum.roster import Status
from tests.buffer.curriculum.helpers import make_mixture, outcome
from tests.buffer.curriculum.twin import Twin

ALL = dict.fromkeys(
    ["uniform", "kimi_curriculum", "kimi_priority", "learnability", "thompson", "plr", "adarft",
     "pools"],
    1.0,
)  # fmt: skip
GATES: dict[str, Any] = {
    # No share of so few trials is the threshold, nor any weight: rounding cannot decide.
    "retire": {"threshold": 0.80037, "trials": 10.0013, "review": 0.3},
    "greso": {"enabled": True, "groups": 3},
}
SIZE = 12


def everything(seed: int = 0, **options: Any) -> Mixture:
    return make_mixture(
        [i % 4 for i in range(SIZE)],
        seed,
        mix=ALL,
        kimi_curriculum={"windows": [{"version": 0, "low": 0.2, "high": 0.9}]},
        success={"half_life": 4.0},
        adarft={"groups": 3},
        **{**GATES, **options},
    )


class Run:
    """Draws and closes at random; successes by prompt, so that some are solved and some never."""

    def __init__(self, mixture: Mixture, seed: int) -> None:
        self.mixture = mixture
        self.rng = random.Random(seed)
        self.flying: list[int] = []
        self.version = 0
        self.log: list[tuple[str, Any]] = []

    def step(self) -> list[int]:
        """What was drawn."""
        drawn: list[int] = []
        what = self.rng.random()
        if what < 0.4 and len(self.flying) < SIZE - 4:
            drawn = self.mixture.sample(self.rng.randint(1, 3), self.version).tolist()
            self.flying += drawn
            self.log += [("opened", (prompt, self.version)) for prompt in drawn]
        elif what < 0.5:
            self.version += self.rng.randint(0, 3)
        elif self.flying:
            prompt = self.flying.pop(self.rng.randrange(len(self.flying)))
            if what < 0.6:
                self.mixture.abandoned(prompt)
                self.log.append(("abandoned", (prompt,)))
            else:
                right = [0, 8, self.rng.randint(5, 8), self.rng.randint(0, 8)][prompt % 4]
                version = max(0, self.version - self.rng.randint(0, 2))
                closed = outcome(prompt, right, version=version)
                self.mixture.observe(closed)
                self.log.append(("observe", (closed,)))
        return drawn


def plain(value: Any) -> Any:
    """A state that == compares."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_lockstep_with_a_slow_twin(seed: int) -> None:
    mixture = everything(seed)
    twin = Twin(SIZE, half_life=4.0, threshold=0.80037, trials=10.0013)
    run = Run(mixture, seed)
    for _ in range(120):
        done = len(run.log)
        drawn = run.step()
        if drawn:
            twin.note()
            free, retired = twin.free, list(twin.retired)
            assert len(set(drawn)) == len(drawn)
            reviewed = [prompt for prompt in drawn if prompt in retired]
            assert reviewed == retired[: len(reviewed)]  # the oldest first
            assert set(drawn) <= free | set(retired), "drawn though in flight"
        for kind, values in run.log[done:]:
            if kind == "opened":
                twin.opened(values[0])
            else:
                closed = values[0] if kind == "observe" else None
                twin.closed(closed.prompt if closed else values[0], closed)
        if drawn:
            check_alike(mixture, twin, run.version)


def check_alike(mixture: Mixture, twin: Twin, now: int) -> None:
    valid, problem = mixture.check_valid()
    assert valid, problem
    roster = mixture._roster
    assert roster.in_flight == dict(twin.in_flight)
    assert roster.retired.to_array().tolist() == twin.retired
    statuses = [roster.status(prompt) for prompt in range(SIZE)]
    assert {p for p in range(SIZE) if statuses[p] is Status.IN_REVIEW} == twin.in_review
    assert set(np.flatnonzero(roster.free(np.arange(SIZE)))) == twin.free
    assert roster.num_free == len(twin.free)
    assert {p: int(d) for p, d in enumerate(mixture._last_drawn) if d} == twin.last_drawn
    assert mixture._unsolved.tolist() == [twin.unsolved[p] for p in range(SIZE)]
    a, b = mixture._posterior.at(np.arange(SIZE), now)
    expected = [twin.evidence(prompt, now) for prompt in range(SIZE)]
    assert np.stack([a, b], 1) == pytest.approx(1 + np.asarray(expected), rel=1e-4)
    metrics = mixture.metrics()
    assert metrics["curriculum/retired"] == len(twin.retired) + len(twin.in_review)
    assert metrics["curriculum/unseen"] == SIZE - len(twin.last_drawn)


@pytest.mark.parametrize("seed", range(4))
def test_a_restored_state_goes_on_alike(seed: int) -> None:
    first = Run(everything(seed), seed)
    for _ in range(150):
        first.step()
    second = Run(everything(seed), seed)
    for _ in range(40):  # of another history: nothing of it may be left
        second.step()
    second.mixture.load_state_dict(first.mixture.state_dict())
    assert plain(second.mixture.state_dict()) == plain(first.mixture.state_dict())
    second.rng.setstate(first.rng.getstate())
    second.flying, second.version = list(first.flying), first.version
    for _ in range(150):
        assert first.step() == second.step()
    assert plain(second.mixture.state_dict()) == plain(first.mixture.state_dict())
    assert first.mixture.metrics() == second.mixture.metrics()
    assert second.mixture.check_valid() == (True, "")


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_of_what_happened_goes_on_alike(seed: int) -> None:
    """As a journal does it: without a choice. Only what metrics average over draws may differ."""
    run = Run(everything(seed), seed)
    for _ in range(200):
        run.step()
    replayed = everything(seed)
    for kind, values in run.log:
        getattr(replayed, kind)(*values)
    states = [plain(mixture.state_dict()) for mixture in (run.mixture, replayed)]
    for state in states:
        del state["recent"]
    assert states[0] == states[1]
    assert run.mixture.sample(4, 99).tolist() == replayed.sample(4, 99).tolist()


def test_the_order_in_which_groups_close_between_two_draws_does_not_matter() -> None:
    states = []
    for order in (1, -1):
        mixture = everything()
        for version in range(6):
            drawn = sorted(mixture.sample(8, version).tolist())[::order]
            for prompt in drawn:
                mixture.observe(outcome(prompt, [0, 8, 7, 3][prompt % 4], version=version))
        mixture.sample(1, 6)
        states.append(plain(mixture.state_dict()))
    assert states[0] == states[1]


def test_a_state_of_other_prompts_is_refused() -> None:
    state = make_mixture(3).state_dict()
    with pytest.raises(ConfigError, match=r"must have the 3 training prompts .* got 4"):
        make_mixture(4).load_state_dict(state)


def test_reviews_have_their_share_and_bring_prompts_back() -> None:
    """Of 20 solved prompts the oldest is reviewed; one that is no longer solved is active again."""
    mixture = make_mixture(60, retire={"threshold": 0.85, "trials": 8, "review": 0.25})
    for prompt in range(20):
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, 8))
    reviewed = []
    for _ in range(400):
        (prompt,) = mixture.sample(1, 0).tolist()
        if prompt < 20:
            reviewed.append(prompt)
            mixture.observe(outcome(prompt, 8))
        else:
            mixture.abandoned(prompt)
    assert reviewed == [i % 20 for i in range(len(reviewed))]
    assert len(reviewed) / 400 == pytest.approx(0.25, abs=0.06)
    assert mixture.metrics()["curriculum/retired"] == 20
    while (prompt := int(mixture.sample(1, 0)[0])) >= 20:
        mixture.abandoned(prompt)
    mixture.observe(outcome(prompt, 0))
    mixture.sample(1, 0)
    assert mixture.metrics()["curriculum/retired"] == 19


def test_with_everything_retired_the_oldest_are_drawn() -> None:
    mixture = make_mixture(3, retire={"threshold": 0.8, "trials": 8, "review": 0.0})
    for prompt in (2, 0, 1):
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, 8))
        mixture._note_pending()
    assert mixture.sample(2, 0).tolist() == [2, 0]
    assert mixture.metrics()["curriculum/in_review"] == 2
    assert mixture.sample(3, 0)[0] == 1  # and then what is in flight already
    assert mixture.metrics()["curriculum/repeated"] == 2


def test_levels_are_known_in_the_metrics() -> None:
    mixture = make_mixture([3, 3, 5], success={"half_life": 0.0})
    for prompt, right in [(0, 8), (1, 4), (2, 0)]:
        mixture.opened(prompt, 0)
        mixture.observe(outcome(prompt, right))
    assert mixture.sample(3, 0).tolist() != []
    metrics = mixture.metrics()
    assert metrics["curriculum/success/level_3"] == pytest.approx(13 / 18)
    assert metrics["curriculum/success/level_5"] == pytest.approx(1 / 10)
    assert metrics["curriculum/success/drawn"] == pytest.approx((9 / 10 + 5 / 10 + 1 / 10) / 3)
    assert metrics["curriculum/epoch"] == 2.0 and metrics["curriculum/unseen"] == 0
