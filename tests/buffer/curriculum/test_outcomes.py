"""What a closed group tells the curriculum, and when the buffer tells it nothing."""

from typing import Any

import pytest

from buffer.curriculum import Outcome, outcome_of
from tests.buffer.desk import LEARNER, Desk
from tests.buffer.fakes import closed_group, make_config


def test_an_outcome_by_hand() -> None:
    """Six tokens of versions 2, 2, 3 and 3, 4, 4: 18 / 6 is 3; one more of 3 keeps the floor."""
    closed = closed_group(7, [1.1, 0.1], tasks=[1.0, 0.0], versions=[(2, 2, 3), (3, 4, 4)])
    outcome = outcome_of(closed)
    assert (outcome.successes, outcome.trials, outcome.version) == (1.0, 2, 3)
    assert not outcome.zero_variance
    assert outcome.abs_advantage == pytest.approx(0.5) and outcome.reward == pytest.approx(0.5)
    later = outcome_of(closed_group(7, [1.0, 0.0], versions=[(2, 2, 3), (3, 4, 5)]))
    assert later.version == 3


def test_equal_rewards_have_no_variance() -> None:
    outcome = outcome_of(closed_group(0, [1.0, 1.0]))
    assert outcome.zero_variance and outcome.successes == 2.0 and outcome.abs_advantage == 0.0


class Watched:
    """Records what it is told; every prompt in turn."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def sample(self, count: int, version: int) -> list[int]:
        self.told.append(("sample", version))
        return [len([t for t in self.told if t[0] == "sample"])] * count

    def observe(self, outcome: Outcome) -> None:
        self.told.append(("observe", outcome.prompt, outcome.successes, outcome.trials))

    def abandoned(self, prompt: int) -> None:
        self.told.append(("abandoned", prompt))

    def metrics(self) -> dict[str, float]:
        return {}


def watched_desk() -> tuple[Desk, Watched]:
    """One group of two per draw; two groups are admitted at version 0."""
    desk = Desk(make_config(learner={"groups_per_update": 1}, staleness={"eta": 1}))
    watched = Watched()
    desk.core._state.curriculum = watched  # type: ignore[assignment]
    desk.join()
    return desk, watched


def test_the_buffer_tells_openings_outcomes_and_what_was_abandoned() -> None:
    desk, watched = watched_desk()
    first, second, third, fourth = desk.request(4)
    assert [first.prompt_id, third.prompt_id] == ["train/1", "train/2"]
    desk.finish(first, 1.0)
    desk.finish(second, 0.0)
    desk.finish(third, 0.0, error="ValueError: no")
    desk.finish(fourth, 0.0, error="ValueError: no")  # nothing is known of this prompt
    assert [told for told in watched.told if told[0] != "sample"] == [
        ("observe", 1, 1.0, 2),
        ("abandoned", 2),
    ]
    opened = [m.values for m in desk.journal.messages if m.kind == "group_opened"]
    assert [values["prompt_index"] for values in opened] == [1, 2]
    assert [values["version"] for values in opened] == [0, 0]


def test_groups_that_the_end_revokes_are_abandoned() -> None:
    desk, watched = watched_desk()
    desk.request(3)
    desk.send(LEARNER, "finish")
    assert [told for told in watched.told if told[0] != "sample"] == [
        ("abandoned", 1),
        ("abandoned", 2),
    ]
