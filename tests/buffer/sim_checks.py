"""What must hold of a simulated buffer: after every message, of every batch, and at the end."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from async_r1.types import Batch
from tests.buffer.fakes import logprobs_of, prompt_tokens

if TYPE_CHECKING:
    from tests.buffer.simulation import World

COUNTED = ("groups/", "staleness/", "reward/errors")


def check_core(world: "World") -> None:
    drawing = world.core.drawing
    valid, problem = drawing.check_valid()
    assert valid, problem


def check_batch(world: "World", batch: Batch) -> None:
    """Everything in a batch against what was sampled, in slow Python."""
    eta = world.config.staleness.eta
    assert batch.policy_version == world.version
    starts = np.concatenate([[0], np.cumsum(batch.completion_lens)])
    prompt_starts = np.concatenate([[0], np.cumsum(batch.prompt_lens)])
    rewards_of: dict[int, list[float]] = {}
    group_of: dict[int, int] = {}
    for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
        truth = world.truths[rollout_id]
        part = slice(int(starts[i]), int(starts[i + 1]))
        prompt = batch.prompt_ids[prompt_starts[i] : prompt_starts[i + 1]]
        assert prompt.tolist() == prompt_tokens(truth.prompt_id).tolist()
        assert batch.token_ids[part].tolist() == truth.tokens
        assert batch.versions[part].tolist() == truth.versions
        expected = logprobs_of(np.asarray(truth.tokens))
        assert batch.behavior_logprobs[part].tolist() == expected.tolist()
        mask = [int(world.version - version <= eta) for version in truth.versions]
        assert batch.mask[part].tolist() == mask
        assert batch.rewards[i] == np.float32(truth.rewards["total"])
        assert batch.item_ids[i] == item_of(world, rollout_id)
        assert group_of.setdefault(int(batch.groups[i]), truth.group_id) == truth.group_id
        rewards_of.setdefault(truth.group_id, []).append(truth.rewards["total"])
    assert len(set(group_of.values())) == len(group_of), "a group is in the batch twice"
    if world.config.buffer.item == "rollout":
        check_rollout_items(world, batch)
        return
    assert 1 <= len(group_of) <= world.config.learner.groups_per_update
    for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
        rewards = rewards_of[world.truths[rollout_id].group_id]
        advantage = world.truths[rollout_id].rewards["total"] - sum(rewards) / len(rewards)
        assert abs(batch.advantages[i] - advantage) < 1e-6
    assert batch.mask.any()
    size = world.config.buffer.group_size
    for group_id, rewards in rewards_of.items():
        assert len(rewards) >= min(size, world.config.buffer.min_rollouts)
        if not world.config.buffer.group_deadline_s + world.config.buffer.group_deadline_versions:
            members = [i for i, truth in world.truths.items() if truth.group_id == group_id]
            assert len(rewards) == size - sum(map(world.fails, members))
    for group_id in group_of.values():
        world.trained[group_id] += 1
        assert world.trained[group_id] <= world.config.buffer.max_times_sampled


def item_of(world: "World", rollout_id: int) -> int:
    truth = world.truths[rollout_id]
    if world.config.buffer.item == "group":
        return truth.group_id
    return truth.group_id * world.config.buffer.group_size + truth.member


def check_rollout_items(world: "World", batch: Batch) -> None:
    """Members one by one: each with the advantage that it has in its whole group."""
    advantages = {
        rollout.rollout_id: float(advantage)
        for group in world.closed
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True)
    }
    for i, rollout_id in enumerate(batch.rollout_ids.tolist()):
        assert batch.advantages[i] == advantages[rollout_id]
        world.trained[item_of(world, rollout_id)] += 1
    assert len(set(batch.rollout_ids.tolist())) == batch.num_rollouts
    most = world.config.learner.groups_per_update * world.config.buffer.group_size
    assert 1 <= batch.num_rollouts <= most
    assert max(world.trained.values()) <= world.config.buffer.max_times_sampled
    assert batch.mask.any()


def check_accounting(world: "World") -> None:
    """Every closed group was trained, had no variance or too few rewards, was dropped, or is
    kept; every failed reward was counted."""
    counts: Counter[str] = Counter()
    for stream, row in world.rows:
        if stream == "buffer":
            counts.update({k: v for k, v in row.items() if k.startswith(COUNTED)})
            if world.config.buffer.max_times_sampled == 1:
                assert row["leases/max_wait_versions"] <= world.config.staleness.eta + 1
    counts.update(world.core.stats.counts)
    if world.config.buffer.item == "rollout":
        return
    closed = {group.group_id for group in world.closed}
    assert len(closed) == len(world.closed) == counts["groups/closed"]
    kept = set(world.core.drawing.table.items())
    zero = {group.group_id for group in world.closed if group.zero_variance}
    assert len(zero) == counts["groups/zero_variance"]
    too_few = {group.group_id for group in world.closed if group.too_few}
    assert len(too_few) == counts["groups/failed"]
    assert not too_few & (set(world.trained) | kept | zero)
    screened_out = {group.group_id for group in world.closed if group.screened_out}
    assert len(screened_out) == counts["groups/screened_out"]
    assert not screened_out & (set(world.trained) | kept | too_few)
    overdue = {group.group_id for group in world.closed if group.overdue}
    assert not overdue & (set(world.trained) | kept | too_few | screened_out)
    if world.config.staleness.overdue == "drop":
        assert len(overdue) == counts["staleness/in_flight_overdue"]
    gone = closed - set(world.trained) - kept - too_few - screened_out - overdue
    if not world.config.buffer.keep_zero_variance:
        assert not zero & (set(world.trained) | kept)
        gone -= zero
    assert len(gone) <= counts["groups/dropped_overdue"] + counts["groups/removed"]
    if world.config.buffer.max_times_sampled == 1:
        assert not set(world.trained) & kept
        assert len(gone) == counts["groups/dropped_overdue"] + counts["groups/removed"]
