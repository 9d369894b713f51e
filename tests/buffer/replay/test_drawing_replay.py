"""Draws, refunds and acknowledgements of `Drawing`, against a twin that replays the events."""

from typing import Any

import numpy as np
import pytest

from async_r1.types import Batch
from buffer.drawing import Drawing
from buffer.stats import BufferStats
from tests.buffer.fakes import closed_group, make_config


def make(seed: int = 0, **sections: Any) -> Drawing:
    values = {"buffer": {"group_size": 3}, "staleness": {"eta": 6}, "seed": seed}
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}  # type: ignore[dict-item]
    return Drawing(make_config(**values), BufferStats())


def plain(state: Any) -> Any:
    """A state with arrays as lists, so that == compares it."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return state.tolist() if isinstance(state, np.ndarray) else state


def canonical(drawing: Drawing) -> Any:
    """The state without what may differ: order in the selectors, and counters of what happened."""
    state = plain(drawing.state_dict())
    for name in ("sampler", "remover"):
        part = state["table"].pop(name)
        weights = part.get("log_weights", part["item_ids"])
        state["table"][name] = sorted(zip(part["item_ids"], weights, strict=True))
    table = state["table"]
    table["times"] = sorted(zip(table.pop("item_ids"), table.pop("times_sampled"), strict=True))
    state["admission"]["closed"].sort()
    columns = ("item_ids", "products", "times", "surprise")
    rows = zip(*(state["priorities"][c] for c in columns), strict=True)
    state["priorities"] = sorted(map(str, rows))
    for name in ("outstanding", "num_batches", "barren_quotas"):
        del state[name]
    state["draws_at"] = [pair for pair in state["draws_at"] if pair[1]]
    return state


SETTINGS: list[dict[str, Any]] = [
    {"sampler": "fifo"},
    {"sampler": "lifo"},
    {"sampler": "uniform", "max_times_sampled": 2, "samples_per_insert": 2.0},
    {"sampler": "prioritized", "max_times_sampled": 3, "samples_per_insert": 2.0},
    {"sampler": "prioritized", "max_times_sampled": 3, "remover": "lowest_priority", "max_size": 6},
    {"sampler": "prioritized", "item": "rollout", "max_times_sampled": 2},
    {"sampler": "fifo", "item": "rollout"},
    {"sampler": "prioritized", "priority": {"factors": ["surprise", "learnability"]},
     "max_times_sampled": 3, "samples_per_insert": 1.5},
]  # fmt: skip


class Events:
    """Random inputs, applied to a drawing and kept, so that they can be replayed."""

    def __init__(self, drawing: Drawing, seed: int) -> None:
        self.drawing, self.rng = drawing, np.random.default_rng(seed)
        self.log: list[tuple[str, tuple[Any, ...]]] = []
        self.version = self.next_group = 0
        self.batch: Batch | None = None
        self.trained: dict[int, int] = {}
        self.refunds = 0

    def do(self, name: str, *args: Any) -> None:
        self.log.append((name, args))
        target = self.drawing.admission if name == "opened" else self.drawing
        getattr(target, name)(*args)

    def step(self) -> None:
        drawing, rng = self.drawing, self.rng
        if rng.random() < 0.5 and drawing.admission.admits(self.version):
            self.do("opened")
            totals = rng.choice([0.0, 1.0], 3).tolist()
            size = int(rng.integers(2, 4))  # a member may have expired
            versions = [[self.version] * int(rng.integers(1, 4))] * size
            group = closed_group(
                self.next_group, totals[:size], versions=versions, opened_version=self.version
            )
            self.next_group += 1
            self.do("put", group)
        elif self.batch is None:
            self.do("requested", self.version)
            self.batch = drawing.draw(self.version, [])
            if self.batch is not None:
                draw = drawing.last_draw
                args = (self.batch.batch_id, self.version, draw.item_ids, draw.inclusion_probs)
                self.log.append(("apply", args))
        elif rng.random() < 0.4:
            self.do("refund", self.batch.batch_id)
            self.refunds += 1
            self.batch = None
        else:
            self.do("acknowledged", self.batch.batch_id)
            ids = np.unique(self.batch.item_ids).tolist()
            for item_id in ids:
                self.trained[item_id] = self.trained.get(item_id, 0) + 1
            self.do("surprised", ids, rng.exponential(0.1, len(ids)).tolist())
            self.version += 1
            self.do("published", self.version)
            self.batch = None
        valid, problem = drawing.check_valid()
        assert valid, problem


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_replaying_the_events_without_choosing_gives_the_same_state(index: int) -> None:
    refunds = trained = 0
    for seed in range(3):
        drawing = make(seed, buffer=SETTINGS[index])
        events = Events(drawing, seed)
        for _ in range(150):
            events.step()
        twin = make(seed, buffer=SETTINGS[index])
        for name, args in events.log:
            getattr(twin.admission if name == "opened" else twin, name)(*args)
        assert plain(twin.state_dict()) == plain(drawing.state_dict())
        restored = make(seed, buffer=SETTINGS[index])
        restored.load_state_dict(drawing.state_dict(), drawing.items())
        assert plain(restored.state_dict()) == plain(drawing.state_dict())
        for _ in range(10):  # and they go on alike
            drawing.requested(events.version), restored.requested(events.version)
            batches = [d.draw(events.version, []) for d in (drawing, restored)]
            ids = [None if batch is None else batch.item_ids.tolist() for batch in batches]
            assert ids[0] == ids[1]
        most = drawing.table.max_times_sampled
        assert max(events.trained.values()) <= most, "trained beyond its cap"
        refunds += events.refunds
        trained += len(events.trained)
    assert refunds > 5 and trained > 25


@pytest.mark.parametrize("index", range(len(SETTINGS)))
def test_a_refund_undoes_the_draw(index: int) -> None:
    """Draw and refund leave the state as it was, wherever it was; a second draw between, too,
    unless its request gave a barren quota back."""
    undone = 0
    for seed in range(3):
        events = Events(make(seed, buffer=SETTINGS[index]), 100 + seed)
        for _ in range(120):
            events.step()
            drawing = events.drawing
            if events.batch is not None:
                continue
            drawing.requested(events.version)
            before = canonical(drawing)
            batch = drawing.draw(events.version, [])
            if batch is None:
                continue
            barren = drawing.admission.leased
            again = drawing.draw(events.version, []) if events.rng.random() < 0.5 else None
            barren -= drawing.admission.leased
            if again is not None:
                drawing.refund(again.batch_id)  # the latest first
            drawing.refund(batch.batch_id)
            if not barren:
                assert canonical(drawing) == before
                undone += 1
    assert undone > 15


def test_a_step_for_a_refunded_batch_counts_after_all() -> None:
    drawing = make(learner={"groups_per_update": 2})
    for group_id in range(4):
        drawing.admission.opened()
        drawing.put(closed_group(group_id, [1.0, 0.0, 0.0]))
    batch = drawing.draw(0, [])
    assert batch is not None
    drawing.refund(batch.batch_id)
    assert len(drawing.table) == 4
    drawing.acknowledged(batch.batch_id)
    assert sorted(drawing.table.items()) == [2, 3]
    drawing.acknowledged(batch.batch_id)  # said twice
    assert sorted(drawing.table.items()) == [2, 3] and not len(drawing.outstanding)
    assert drawing.check_valid() == (True, "")


def test_what_left_for_another_reason_does_not_come_back() -> None:
    """Two groups are drawn once of twice, and one is overdue before the draw is refunded."""
    drawing = make(buffer={"max_times_sampled": 2}, staleness={"eta": 1})
    for group_id, version in ((0, 0), (1, 3)):
        drawing.admission.opened()
        drawing.put(closed_group(group_id, [1.0, 0.0, 0.0], opened_version=version))
    batch = drawing.draw(0, [])
    assert batch is not None
    drawing.published(3)
    assert sorted(drawing.table.items()) == [1]
    drawing.refund(batch.batch_id)
    assert sorted(drawing.table.items()) == [1] and drawing.table.times_sampled(1) == 0
    assert drawing.check_valid() == (True, "")


def test_rollout_items_are_members_with_the_advantage_of_their_group() -> None:
    drawing = make(buffer={"item": "rollout", "sampler": "uniform"})
    for group_id in range(3):
        drawing.admission.opened()
        drawing.put(closed_group(group_id, [1.0, 0.0, 0.5]))
    batch = drawing.draw(0, [])
    assert batch is not None and batch.num_rollouts == 6 and batch.num_items == 9
    assert batch.inclusion_probs == pytest.approx([6 / 9] * 6)
    for item_id, group, advantage in zip(
        batch.item_ids.tolist(), batch.groups.tolist(), batch.advantages.tolist(), strict=True
    ):
        assert advantage == [0.5, -0.5, 0.0][item_id % 3]
        assert np.unique(batch.item_ids // 3)[group] == item_id // 3


def test_beta_ships_with_prioritized_draws_alone() -> None:
    for sampler, beta in (("fifo", 0.0), ("lifo", 0.0), ("uniform", 0.0), ("prioritized", 0.4)):
        drawing = make(buffer={"sampler": sampler})
        for group_id in range(3):
            drawing.admission.opened()
            drawing.put(closed_group(group_id, [1.0, 0.0, 0.5]))
        batch = drawing.draw(0, [])
        assert batch is not None and batch.beta == beta and batch.num_items == 3


def test_min_size_holds_the_first_draw_only() -> None:
    drawing = make(buffer={"min_size": 4})
    for group_id in range(5):
        drawing.admission.opened()
        drawing.put(closed_group(group_id, [1.0, 0.0, 0.5]))
        if group_id == 2:
            assert drawing.draw(0, []) is None
            text = "1 more groups to close before the first batch (buffer.min_size)"
            assert drawing.waits_for(0, []) == text
    assert drawing.draw(0, []) is not None
    assert drawing.draw(0, []) is not None
    assert drawing.draw(0, []) is None


def test_lowest_priority_leaves_a_full_table() -> None:
    drawing = make(
        buffer={"max_size": 2, "remover": "lowest_priority", "max_times_sampled": 2,
                "priority": {"decay_versions": 0.0}},
    )  # fmt: skip
    for group_id, totals in enumerate(([0.0, 9.0, 0.0], [0.0, 0.1, 0.0], [0.0, 4.0, 0.0])):
        drawing.admission.opened()
        drawing.put(closed_group(group_id, totals))
    assert sorted(drawing.table.items()) == [0, 2]
