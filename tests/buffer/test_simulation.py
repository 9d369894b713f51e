"""Whole runs of the buffer among simulated peers: no deadlock, bounded staleness, nothing lost.

Every world checks every batch against what its actors sampled, and fails as soon as nothing can
happen any more (`simulation.py`). Here stands what must hold at the end.
"""

import numpy as np
import pytest

from tests.buffer.sim_worlds import long_tailed, make_world, short


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
