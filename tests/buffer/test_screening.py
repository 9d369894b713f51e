"""Groups that open small and grow if their first members are worth it (SPEED)."""

from itertools import groupby

import pytest

from async_r1.messages import read_leases
from async_r1.types import Lease
from tests.buffer.desk import LEARNER, A, Desk, batch_of
from tests.buffer.fakes import make_config
from tests.buffer.sim_worlds import make_world, short
from tests.buffer.simulation import World

SCREENED = {
    "buffer": {"group_size": 4, "refill_max": 2},
    "curriculum": {"screen": 2},
    "learner": {"groups_per_update": 1},
    "staleness": {"eta": 0},
}


def test_a_promising_group_grows_before_a_new_one_opens() -> None:
    """Its members get the ids that were kept for them, and it closes when all are scored."""
    desk = Desk(make_config(**{**SCREENED, "staleness": {"eta": 1}}))
    desk.join()
    first = desk.request(3)
    assert [(lease.rollout_id, lease.member) for lease in first] == [(0, 0), (1, 1), (4, 0)]
    for lease in first[:2]:
        desk.finish(lease, float(lease.member))
    (grown,) = [m.values for m in desk.journal.messages if m.kind == "group_grown"]
    assert grown == {"group_id": 0, "rollout_ids": [2, 3]}
    more = desk.request(4, received=3)
    assert [(lease.rollout_id, lease.member) for lease in more] == [(2, 2), (3, 3), (5, 1)]
    for lease in more[:2]:
        desk.finish(lease, 1.0)
    batch = batch_of(desk.send(LEARNER, "batch_request", policy_version=0))
    assert batch.rollout_ids.tolist() == [0, 1, 2, 3]
    assert desk.core.stats.counts["groups/grown"] == 1


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_a_group_all_right_or_all_wrong_leaves_and_another_takes_its_place(reward: float) -> None:
    desk = Desk(make_config(**SCREENED))
    desk.join()
    for lease in desk.request(8):
        sent = desk.finish(lease, reward, num_tokens=1 + lease.member)
    assert desk.core.stats.counts["groups/screened_out"] == 1
    ((_, message),) = sent
    leases = read_leases(message)
    assert [lease.group_id for lease in leases] == [1, 1]
    assert not [m for m in desk.journal.messages if m.kind == "group_grown"]


def test_in_sync_mode_it_grows_in_the_version_that_opened_it() -> None:
    desk = Desk(
        make_config(**{**SCREENED, "mode": "sync", "actors": {"max_concurrent": 8, "count": 1}})
    )
    desk.join()
    received: list[Lease] = []
    desk.send(LEARNER, "batch_request", policy_version=0)
    for expected in ([0, 1], [2, 3]):
        leases = desk.request(8, received=len(received))
        received += leases
        assert [lease.rollout_id for lease in leases] == expected
        sent = [desk.finish(lease, float(lease.member), peer=A) for lease in leases]
    assert batch_of(sent[-1]).rollout_ids.tolist() == [0, 1, 2, 3]


def screened_world(seed: int, **sections: object) -> World:
    size = 3 + seed % 4
    return make_world(
        seed,
        lengths=short,
        buffer={"group_size": size, "refill_max": 2},
        curriculum={"screen": 2 + seed % (size - 1)},
        **sections,
    )


def test_whole_runs_with_screening() -> None:
    grown = screened_out = 0
    for seed in range(8):
        world = screened_world(seed, world={"turbulence": 0.02 * (seed % 2), "failures": 0.1})
        world.run(6)
        assert world.error is None
        screen, size = world.config.curriculum.screen, world.config.buffer.group_size
        for group in world.closed:
            members = [i for i, t in world.truths.items() if t.group_id == group.group_id]
            num_scored = len(members) - sum(map(world.fails, members))
            assert len(group.rollouts) == num_scored
            first = [r for r in group.rollouts if r.member < screen]
            mixed = 0 < sum(r.rewards["task"] for r in first) < len(first)
            assert len(members) == (size if mixed else screen)
            screened_out += group.screened_out
            grown += len(members) > screen
    assert grown > 30 and screened_out > 30


def test_screening_in_sync_mode_does_not_depend_on_what_happens_when() -> None:
    for seed in range(4):
        runs = []
        for schedule in range(3):
            world = screened_world(
                seed,
                mode="sync",
                staleness={"eta": 0},
                actors={"count": 2},
                world={"num_actors": 2, "schedule": schedule, "zero_variance": 0.3},
            )
            world.run(5)
            runs.append([(b.rollout_ids.tolist(), b.token_ids.tolist()) for b in world.batches])
            assert max(world.staleness()) == 0
        assert runs[0] == runs[1] == runs[2]
        assert len(list(groupby(runs[0]))) == 5
