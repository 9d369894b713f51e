"""Whole runs of the buffer among simulated peers: no deadlock, bounded staleness, nothing lost.

Every world checks every batch against what its actors sampled, and fails as soon as nothing can
happen any more (`simulation.py`). Here stand the worlds, and what must hold at their end.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from async_r1.errors import TrainingError
from tests.buffer.fakes import make_config
from tests.buffer.simulation import World

Draw = Callable[[np.random.Generator], int]


def short(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 9))


def long_tailed(rng: np.random.Generator) -> int:
    """Most rollouts are short, every fourth outlives several versions."""
    return int(rng.choice([1, 2, 3, 60]))


def constant(rng: np.random.Generator) -> int:
    return 4


def make_world(
    seed: int, *, lengths: Draw = long_tailed, world: dict[str, Any] | None = None, **sections: Any
) -> World:
    """A random world; `sections` are options of the config that are not random."""
    rng = np.random.default_rng([seed, 99])
    values: dict[str, dict[str, Any]] = {
        "buffer": {
            "refill_max": int(rng.integers(0, 3)),
            "group_size": int(rng.integers(2, 4)),
            "max_unusable_publishes": 10**6,
            "wait_timeout_s": 1e9,
        },
        "learner": {
            "groups_per_update": int(rng.integers(1, 5)),
            "updates_per_publish": int(rng.integers(1, 4)),
        },
        "staleness": {"eta": int(rng.integers(0, 7))},
        "actors": {
            "segment_tokens": 3,
            "rollout_token_budget": int(rng.choice([0, 0, 5])),
            "max_concurrent": int(rng.integers(1, 7)),
        },
    }
    merged: dict[str, Any] = {"seed": seed}
    for name in {*values, *sections}:
        section = sections.get(name, {})
        merged[name] = section
        if isinstance(section, dict):
            merged[name] = {**values.get(name, {}), **section}
    options = {
        "num_actors": int(rng.integers(1, 4)),
        "zero_variance": float(rng.choice([0, 0.3, 0.7])),
        **(world or {}),
    }
    return World(config=make_config(**merged), seed=seed, lengths=lengths, **options)


@pytest.mark.parametrize("overdue", ["mask", "wait", "drop"])
def test_every_run_reaches_its_end(overdue: str) -> None:
    """Actors join, leave and fall silent, evals run, rollouts are suspended and lost."""
    num_suspended = 0
    for seed in range(10):
        world = make_world(
            seed,
            staleness={"overdue": overdue},
            eval={"every": seed % 3, "timeout_s": 1e9},
            world={"turbulence": 0.02},
        )
        world.run(8)
        assert world.error is None
        num_suspended += sum(row.get("leases/suspended", 0) for _, row in world.rows)
    assert num_suspended > 50


def test_groups_that_finish_in_lease_order_are_never_overdue() -> None:
    """The bound of the admission alone: no mask, no drop, no wait is needed."""
    largest = []
    for seed in range(15):
        world = make_world(
            seed, lengths=constant, actors={"rollout_token_budget": 0}, world={"num_actors": 1}
        )
        world.run(10)
        eta = world.config.staleness.eta
        assert max(world.staleness()) <= eta
        assert all(batch.mask.all() for batch in world.batches)
        largest.append(max(world.staleness()) == eta)
    assert any(largest), "the bound was never reached: it does not bind"


def wide_world(seed: int, overdue: str) -> World:
    """All that is admitted is sampled at once, so that slow groups are overtaken by many."""
    eta, draws, batch = 1 + seed % 3, 1 + seed % 2, 1 + seed // 2 % 3
    return make_world(
        seed,
        buffer={"group_size": 2},
        learner={"groups_per_update": batch, "updates_per_publish": draws},
        staleness={"eta": eta, "overdue": overdue},
        actors={"max_concurrent": 2 * (eta + 1) * draws * batch, "rollout_token_budget": 0},
        world={"num_actors": 1},
    )


def test_overdue_wait_never_masks_and_never_drops() -> None:
    for seed in range(20):
        world = wide_world(seed, "wait")
        world.run(8)
        assert all(batch.mask.all() for batch in world.batches)
        assert not sum(row.get("groups/dropped_overdue", 0) for _, row in world.rows)


def test_overdue_drop_never_ships_a_group_with_an_overdue_token() -> None:
    at_draw = in_flight = 0
    for seed in range(25):
        world = wide_world(seed, "drop")
        world.run(8)
        assert max(world.staleness()) <= world.config.staleness.eta
        at_draw += sum(row.get("groups/dropped_overdue", 0) for _, row in world.rows)
        for group, drawn in zip(world.closed, world.drawn_before, strict=True):
            if group.overdue and drawn < len(world.batches):  # no draw could have taken it
                members = [t for t in world.truths.values() if t.group_id == group.group_id]
                oldest = min(version for truth in members for version in truth.versions)
                assert world.batches[drawn].policy_version - oldest > world.config.staleness.eta
                in_flight += 1
    assert at_draw > 0 and in_flight > 5


def test_overdue_mask_trains_the_rest_of_what_it_masks() -> None:
    """`check_batch` compares every mask; here only that there was something to mask."""
    masked = 0
    for seed in range(10):
        world = wide_world(seed, "mask")
        world.run(8)
        masked += sum(int((batch.mask == 0).sum()) for batch in world.batches)
    assert masked > 50


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
        assert "no usable group in 3 batches' worth" in str(world.error)


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


def test_any_admissible_replay_ratio_keeps_running() -> None:
    """samples_per_insert <= max_times_sampled, and <= eta * updates_per_publish + 1."""
    trained_again = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        times, eta, draws = (int(rng.integers(1, 5)) for _ in range(3))
        ratio = min(float(rng.choice([1.0, 1.5, 2.0, times])), times, eta * draws + 1)
        world = make_world(
            seed,
            lengths=short,
            buffer={
                "max_times_sampled": times,
                "samples_per_insert": ratio,
                "samples_per_insert_tolerance": float(rng.choice([0.0, 1.0])),
                "sampler": str(rng.choice(["fifo", "uniform"])),
            },
            learner={"updates_per_publish": draws},
            staleness={"eta": eta},
        )
        world.run(8)
        limiter = world.core.drawing.table.rate_limiter
        assert limiter.num_samples <= ratio * limiter.num_inserts + limiter.tolerance
        trained_again += max(world.trained.values()) > 1
    assert trained_again > 5


@pytest.mark.parametrize("item", ["group", "rollout"])
def test_replay_by_priority_goes_on_and_a_new_learner_trains_nothing_twice(item: str) -> None:
    """Learners die with a batch in their hands; `check_batch` counts what was really trained."""
    trained_again = refunded = 0
    for seed in range(10):
        world = make_world(
            seed,
            buffer={
                "item": item,
                "sampler": ("prioritized", "lifo", "uniform", "fifo")[seed % 4],
                "remover": ("fifo", "lowest_priority")[seed % 2],
                "max_size": (6, 4096)[seed % 3 > 0],
                "max_times_sampled": 1 + seed % 3,
                "samples_per_insert": min(1 + seed % 3, 2.0),
                "priority": {"factors": ["surprise", "abs_advantage"]},
            },
            learner={"groups_per_update": 1 + seed % 4},
            staleness={"eta": 2 + seed % 4, "overdue": ("mask", "wait", "drop")[seed % 3]},
            world={"amnesia": 0.3, "turbulence": 0.01, "failures": 0.1 * (seed % 2)},
        )
        world.run(8)
        assert world.error is None
        trained_again += max(world.trained.values()) > 1
        refunded += world.refunded
    assert trained_again > 2 and refunded > 10


def test_group_deadlines_and_small_tables() -> None:
    expired = removed = 0
    for seed in range(12):
        world = make_world(
            seed,
            buffer={
                "group_size": 4,
                "min_rollouts": 1 + seed % 3,
                "group_deadline_versions": seed % 3,
                "group_deadline_s": 2.0 * (seed % 2),
                "max_size": 3 + seed % 5,
                "sampler": "uniform" if seed % 2 else "fifo",
            },
            learner={"groups_per_update": 1 + seed % 3},
            world={"turbulence": 0.01},
        )
        world.run(6)
        rows = [row for stream, row in world.rows if stream == "buffer"]
        expired += sum(row["groups/expired"] for row in rows)
        removed += sum(row["groups/removed"] for row in rows)
    assert expired > 5 and removed > 0


def test_finish_with_rollouts_in_flight() -> None:
    for seed in range(10):
        world = make_world(
            seed,
            eval={"every": 1 + seed % 3, "timeout_s": 1e9},
            world={"turbulence": 0.02 * (seed % 2)},
        )
        world.run(2 + seed % 3)
        world.finish()
        book = world.core.book
        assert not book.groups and not book.rollouts
        evals = [row for stream, row in world.rows if stream == "eval"]
        assert evals[-1]["policy_version_max"] == world.version
        assert all(actor.stopped or actor.silent or actor.gone for actor in world.actors)


def test_evals_never_train_and_run_at_every_chosen_version() -> None:
    for seed in range(4):
        world = make_world(
            seed,
            eval={"every": 2, "timeout_s": 1e9},
            learner={"updates_per_publish": 1},
            mode="sync",
            staleness={"eta": 0},
            actors={"count": 2},
            world={"num_actors": 2},
        )
        world.run(7)
        world.finish()
        rows = [row for stream, row in world.rows if stream == "eval"]
        assert [row["policy_version"] for row in rows] == [0, 2, 4, 6, 7]
        assert all(row["policy_version"] == row["policy_version_max"] for row in rows)
        prompts = {truth.prompt_id for i, truth in world.truths.items() if truth.group_id == -1}
        assert prompts == {f"eval/{i}" for i in range(4)}
        trained = {int(i) for batch in world.batches for i in batch.rollout_ids}
        assert not any(world.truths[i].group_id == -1 for i in trained)


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


def test_a_suspended_rollout_goes_on_where_it_was_on_whichever_actor() -> None:
    world = make_world(
        3,
        lengths=long_tailed,
        actors={"rollout_token_budget": 4, "max_concurrent": 4},
        staleness={"eta": 1},
        world={"num_actors": 3, "zero_variance": 0.0},
    )
    world.run(12)
    holders: dict[int, set[bytes]] = {}
    for name, leases in world.grants:
        for lease in leases:
            holders.setdefault(lease.rollout_id, set()).add(name)
    trained = {int(i) for batch in world.batches for i in batch.rollout_ids}
    assert any(len(holders[i]) > 1 for i in trained), "no rollout changed its actor"
