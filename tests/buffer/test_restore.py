"""A buffer that goes on from its journal is the one that wrote it, and the run notices nothing."""

import numpy as np
import pytest

from buffer.restore import Replay
from tests.buffer.killed_world import KilledWorld, MemoryJournal
from tests.buffer.test_simulation import make_world


def make_killed(seed: int, kills: float, **sections: object) -> KilledWorld:
    plain = make_world(seed, **sections)  # type: ignore[arg-type]
    return KilledWorld(
        config=plain.config,
        seed=seed,
        lengths=plain.lengths,
        num_actors=plain.num_actors,
        zero_variance=plain.zero_variance,
        turbulence=plain.turbulence,
        failures=plain.failures,
        kills=kills,
    )


@pytest.mark.parametrize("overdue", ["mask", "wait", "drop"])
def test_the_records_alone_make_the_same_state(overdue: str) -> None:
    for seed in range(2):
        world = make_killed(
            seed, 0.0, staleness={"overdue": overdue}, eval={"every": seed % 3, "timeout_s": 1e9},
            world={"turbulence": 0.02, "failures": 0.05},
        )  # fmt: skip
        world.run(5)
        assert world.error is None and world.num_kills == 0
        assert world.shadow.num_records > 100


@pytest.mark.parametrize("overdue", ["mask", "wait", "drop"])
def test_killed_at_any_message_the_run_goes_on(overdue: str) -> None:
    num_kills = 0
    for seed in range(3):
        world = make_killed(
            seed, 0.01, staleness={"overdue": overdue}, eval={"every": seed % 3, "timeout_s": 1e9},
            world={"turbulence": 0.01},
        )  # fmt: skip
        world.run(5)
        assert world.error is None
        num_kills += world.num_kills
    assert num_kills > 10


@pytest.mark.parametrize("item", ["group", "rollout"])
def test_a_snapshot_makes_the_same_state(item: str) -> None:
    num_kills = 0
    for seed in range(3):
        world = make_killed(
            seed, 0.01, eval={"every": 2, "timeout_s": 1e9}, world={"turbulence": 0.01},
            buffer={"item": item, "sampler": "prioritized" if seed % 2 else "fifo"},
        )  # fmt: skip
        world.compacts = True
        world.run(5)
        assert world.error is None
        num_kills += world.num_kills
    assert num_kills > 10


def test_whatever_record_is_lost_the_rest_is_restored() -> None:
    """One record of a run at a time is gone; what is left is consistent, and goes on: no lease is
    given out twice, and only rollouts that the record was about have fewer tokens."""
    world = make_killed(5, 0.0, eval={"every": 2, "timeout_s": 1e9}, world={"turbulence": 0.02})
    world.run(3)
    records = list(world.journal.records)
    granted = {
        (rollout_id, epoch)
        for record in records
        if record.message.kind == "leases"
        for rollout_id, epoch in record.message.values["leases"]
    }
    whole = {i: r.num_tokens for i, r in world.core.book.rollouts.items()}
    kinds: dict[str, int] = {}
    for lost in np.random.default_rng(0).permutation(len(records)):
        message = records[lost].message
        kinds[message.kind] = kinds.get(message.kind, 0) + 1
        if kinds[message.kind] > 4:
            continue
        replay = Replay(world.make_core(MemoryJournal()))
        replay.run([*records[:lost], *records[lost + 1 :]])
        replay.restart(damaged=True)
        core = replay.core
        for valid, problem in (core.drawing.check_valid(), core.book.check_valid()):
            assert valid, (message.kind, problem)
        for rollout_id, rollout in core.book.rollouts.items():
            if rollout.holder is None:  # the next lease is new to everybody
                assert (rollout_id, rollout.lease_epoch + 1) not in granted, message.kind
            about = rollout_id == message.values.get("rollout_id")
            about |= rollout_id in message.values.get("rollout_ids", [])
            assert about or rollout.num_tokens >= whole.get(rollout_id, 0), message
    assert {"segment", "score", "leases", "group_opened", "group_closed", "draw"} <= kinds.keys()
