"""Whole runs in sync mode: what trains does not depend on what happens when."""

from collections import Counter

from tests.buffer.sim_worlds import make_world
from tests.buffer.simulation import World


def test_sync_mode_does_not_depend_on_what_happens_when() -> None:
    """The same seed under other timings gives the same batches, token by token."""
    for seed in range(6):
        runs = []
        for schedule in range(3):
            world = make_world(
                seed,
                mode="sync",
                staleness={"eta": 0},
                eval={"every": seed % 3},
                actors={"count": 2},
                world={"num_actors": 2, "schedule": schedule},
            )
            world.run(7)
            runs.append(world)
        for run in runs[1:]:
            for batch, expected in zip(run.batches, runs[0].batches, strict=True):
                for name in ("token_ids", "versions", "rollout_ids", "item_ids", "advantages"):
                    assert getattr(batch, name).tolist() == getattr(expected, name).tolist()
            assert _split(run) == _split(runs[0])


def _split(world: World) -> dict[int, tuple[bytes, int]]:
    """Which actor sampled each rollout, with which seed."""
    return {
        lease.rollout_id: (actor, lease.seed) for actor, leases in world.grants for lease in leases
    }


def test_sync_mode_sends_one_message_per_actor_once_all_are_idle() -> None:
    world = make_world(
        1,
        mode="sync",
        staleness={"eta": 0},
        learner={"groups_per_update": 4, "updates_per_publish": 1},
        buffer={"refill_max": 0},
        actors={"count": 2},
        world={"num_actors": 2, "zero_variance": 0.0},
    )
    world.run(5)
    per_actor = Counter(name for name, _ in world.grants)
    assert set(per_actor.values()) <= {5, 6}  # one per batch; perhaps one for the batch after
    everyone = [lease.rollout_id for _, leases in world.grants for lease in leases]
    assert len(everyone) == len(set(everyone))
    assert all(
        lease.rollout_id % 2 == int(name[8:9]) for name, leases in world.grants for lease in leases
    )
    assert max(world.staleness()) == 0
