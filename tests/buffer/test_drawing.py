"""Closed groups to batches: what waits, what leaves, and what the error says."""

import pytest

from async_r1.errors import TrainingError
from async_r1.types import Batch
from buffer.drawing import Drawing
from buffer.groups import Group
from buffer.rollout import Rollout
from buffer.stats import BufferStats
from tests.buffer.fakes import closed_group, make_config, make_prompt


def make_drawing(*, opened: int, **sections: object) -> Drawing:
    drawing = Drawing(make_config(**sections), BufferStats())
    for _ in range(opened):
        drawing.admission.opened()
    return drawing


def put(drawing: Drawing, group_id: int, version: int = 0, *, equal: bool = False) -> None:
    drawing.put(closed_group(group_id, [1.0, float(equal)], opened_version=version))


def live(*group_ids: int, version: int = 0) -> list[Group]:
    groups = []
    for group_id in group_ids:
        prompt = make_prompt(group_id)
        members = [Rollout(rollout_id=0, group_id=group_id, member=0, prompt=prompt)]
        groups.append(
            Group(
                group_id=group_id,
                prompt=prompt,
                members=members,
                opened_version=version,
                opened_at=0.0,
            )
        )
    return groups


def drawn(batch: Batch | None) -> list[int]:
    assert batch is not None
    return sorted(set(batch.item_ids.tolist()))


def test_wait_looks_at_all_draws_of_a_version() -> None:
    """One group per draw, two draws per version, eta = 1: groups 0 to 3 are leased at version 0,
    4 and 5 at version 1. Group 0 is slow; it can train at version 1 at the latest."""
    drawing = make_drawing(
        opened=6,
        learner={"groups_per_update": 1, "updates_per_publish": 2},
        staleness={"eta": 1, "overdue": "wait"},
    )
    put(drawing, 3)
    assert drawn(drawing.draw(0, live(0, 1, 2))) == [3]
    put(drawing, 2)
    assert drawn(drawing.draw(0, live(0, 1))) == [2]
    put(drawing, 4, version=1)
    late = live(0, 1) + live(5, version=1)
    assert drawing.draw(1, late) is None  # groups 0 and 1 need both draws of version 1
    assert drawing.waits_for(1, late) == "overdue groups among 3 live ones (staleness.overdue=wait)"
    put(drawing, 1)
    late = live(0) + live(5, version=1)
    assert drawn(drawing.draw(1, late)) == [1]
    assert drawing.draw(1, late) is None  # the last draw at which group 0 is not overdue
    put(drawing, 0)
    assert drawn(drawing.draw(1, live(5, version=1))) == [0]
    assert drawn(drawing.draw(2, live(5, version=1))) == [4]


def test_without_wait_slow_groups_are_left_behind() -> None:
    drawing = make_drawing(opened=4, learner={"groups_per_update": 1}, staleness={"eta": 0})
    put(drawing, 3)
    assert drawn(drawing.draw(0, live(0, 1, 2))) == [3]


def test_overdue_groups_leave_and_shorten_the_batch() -> None:
    drawing = make_drawing(opened=3, staleness={"eta": 1})
    put(drawing, 0, version=0)
    put(drawing, 1, version=3)
    assert drawn(drawing.draw(3, [])) == [1]
    assert not len(drawing.table) and not drawing.admission.closed


def test_waits_for_names_the_missing_groups() -> None:
    drawing = make_drawing(opened=4)
    put(drawing, 0)
    assert drawing.draw(0, live(1)) is None
    assert drawing.waits_for(0, live(1)) == "1 more groups to close; 1 are live"


def test_waits_for_names_the_rate_limit() -> None:
    drawing = make_drawing(
        opened=2,
        buffer={"samples_per_insert_tolerance": 0.0, "max_times_sampled": 2},
        staleness={"eta": 1},
    )
    put(drawing, 0)
    put(drawing, 1)
    assert drawn(drawing.draw(0, [])) == [0, 1]
    assert drawing.draw(1, []) is None
    assert drawing.waits_for(1, []) == "inserts: the sampling ratio is at its tolerance"


def test_barren_quotas_count_until_a_draw() -> None:
    drawing = make_drawing(opened=12, buffer={"max_unusable_publishes": 2})
    for group_id in (0, 1):
        put(drawing, group_id, equal=True)
    drawing.check_barren()
    put(drawing, 2)
    put(drawing, 3)
    assert drawn(drawing.draw(0, [])) == [2, 3]
    for group_id in (4, 5):
        put(drawing, group_id, equal=True)
    drawing.check_barren()
    assert drawing.metrics()["buffer/barren_quotas"] == 1
    for group_id in (6, 7):
        put(drawing, group_id, equal=True)
    with pytest.raises(TrainingError, match="no usable group in 2 batches' worth"):
        drawing.check_barren()


def test_inclusion_probabilities_ship_with_the_batch() -> None:
    drawing = make_drawing(opened=9, buffer={"sampler": "uniform"}, staleness={"eta": 6})
    for group_id in range(5):
        put(drawing, group_id)
    batch = drawing.draw(0, [])
    assert batch is not None
    assert batch.inclusion_probs.tolist() == pytest.approx([2 / 5] * 4)
