"""A buffer that goes on from its journal is the one that wrote it, and the run notices nothing."""

import pytest

from tests.buffer.killed_world import KilledWorld
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
