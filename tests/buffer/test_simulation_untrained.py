"""Whole runs with groups that leave untrained: no variance, failed rewards, refills."""

import re
from typing import Any

import pytest

from async_r1.errors import TrainingError
from tests.buffer.sim_worlds import constant, make_world, short


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_nothing_but_zero_variance_ends_with_its_name(mode: str) -> None:
    for seed in range(6):
        world = make_world(
            seed,
            lengths=short,
            mode=mode,
            staleness={"eta": 0} if mode == "sync" else {},
            buffer={"max_unusable_publishes": 3, "refill_max": seed % 3},
            actors={"count": 2},
            world={"zero_variance": 1.0, "num_actors": 2},
        )
        world.run(3)
        assert isinstance(world.error, TrainingError) and world.step == 0
        batches = 3 * world.config.learner.updates_per_publish
        assert f"no usable group in {batches} batches' worth" in str(world.error)


def test_zero_variance_groups_train_when_they_are_kept() -> None:
    world = make_world(0, buffer={"keep_zero_variance": True}, world={"zero_variance": 1.0})
    world.run(5)
    assert all(not batch.advantages.any() for batch in world.batches)


def test_refills_fill_the_batch_up() -> None:
    """With enough refills no batch is short, without any some are."""
    sizes: dict[int, set[int]] = {0: set(), 8: set()}
    for refill_max, seen in sizes.items():
        for seed in range(4):
            world = make_world(
                seed,
                buffer={"refill_max": refill_max},
                learner={"groups_per_update": 3},
                staleness={"eta": 4},
                lengths=short,
                world={"zero_variance": 0.5},
            )
            world.run(6)
            seen |= {len(set(batch.groups.tolist())) for batch in world.batches}
    assert sizes[8] == {3} and min(sizes[0]) < 3


def test_failed_rewards_are_left_out_and_the_bound_holds() -> None:
    """With groups that finish in lease order no token is overdue, as without failures: a group
    that leaves for lack of rewards gives its slot back like any other. `check_batch` has what
    trains; `check_accounting` the rest."""
    failed, left = 0, 0
    for seed in range(12):
        world = make_world(
            seed,
            lengths=constant,
            buffer={"group_size": 3, "min_rollouts": 2},
            actors={"rollout_token_budget": 0},
            world={"num_actors": 1, "failures": 0.3},
        )
        world.run(8)
        assert max(world.staleness()) <= world.config.staleness.eta
        assert all(batch.mask.all() for batch in world.batches)
        scored = [rollout for group in world.closed for rollout in group.rollouts]
        assert not any(world.fails(rollout.rollout_id) for rollout in scored)
        failed += 3 * len(world.closed) - len(scored)
        left += sum(group.too_few for group in world.closed)
    assert failed > 100 and left > 10


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_failures_in_turbulence_and_in_sync_mode(mode: str) -> None:
    for seed in range(8):
        runs = []
        for schedule in range(2):
            sections: dict[str, Any] = {"world": {"failures": 0.25, "schedule": schedule}}
            if mode == "sync":
                sections |= {"mode": "sync", "staleness": {"eta": 0}, "actors": {"count": 2}}
                sections["world"]["num_actors"] = 2
            else:
                sections["world"]["turbulence"] = 0.02
            world = make_world(seed, eval={"every": 2, "timeout_s": 1e9}, **sections)
            world.run(6)
            assert world.error is None
            runs.append(world)
        if mode == "sync":
            for batch, expected in zip(runs[1].batches, runs[0].batches, strict=True):
                assert batch.rollout_ids.tolist() == expected.rollout_ids.tolist()
                assert batch.info == expected.info


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_rewards_that_always_fail_end_the_run_and_are_quoted(mode: str) -> None:
    world = make_world(
        2,
        mode=mode,
        buffer={"max_unusable_publishes": 5},
        staleness={"eta": 0} if mode == "sync" else {},
        world={"failures": 1.0, "zero_variance": 0.0, "num_actors": 1},
    )
    world.run(3)
    assert isinstance(world.error, TrainingError)
    assert re.search(r"last reward error: ValueError: no digits \(reward\.py:3\), prompt train/\d+",
                     str(world.error))  # fmt: skip
    assert not world.batches
