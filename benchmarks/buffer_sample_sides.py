"""One side of `buffer_sample.py` in a process of its own: python buffer_sample_sides.py SIDE JSON.

Prints one JSON object. `cpprb` needs nothing of async_r1, so that it can run in an environment of
its own.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ALPHA, BETA, EPSILON, MIX = 0.6, 0.4, 0.01, 0.1


def timed(
    repeats: int, call: Callable[[int], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median duration of a call [us], after a tenth as many for warming up."""
    for i in range(max(1, repeats // 10)):
        call(i)
    durations = []
    for i in range(repeats):
        started = clock()
        call(i)
        durations.append(clock() - started)
    return 1e6 * statistics.median(durations)


def priorities(size: int) -> np.ndarray:
    return np.random.default_rng(0).exponential(1.0, size)


def ours(job: dict[str, Any], tree_from: int | None = None) -> dict[str, float]:
    """Exact probabilities, without replacement, a uniform floor; ids and weights come out."""
    from buffer.replay.prioritized import TREE_FROM, Prioritized

    size, count = job["size"], job["count"]
    sampler = Prioritized(MIX, tree_from=TREE_FROM if tree_from is None else tree_from)
    keys = ALPHA * np.log(priorities(size) + EPSILON)
    state = {"item_ids": np.arange(size), "log_weights": keys, "base": float(keys.max())}
    sampler.load_state_dict(state)
    rng = np.random.default_rng(1)
    drawn: list[list[int]] = [[]]

    def draw(_: int) -> Any:
        drawn[0], probs = sampler.select(count, rng)
        return (count / (size * probs)) ** BETA

    fresh = rng.exponential(1.0, (64, count))

    def update(i: int) -> None:
        sampler.update(drawn[0], ALPHA * np.log(fresh[i % 64] + EPSILON))

    def both(i: int) -> None:
        draw(i)
        update(i)

    return {
        "draw_us": timed(job["repeats"], draw),
        "update_us": timed(job["repeats"], update),
        "both_us": timed(job["repeats"], both),
    }


def flat(job: dict[str, Any]) -> dict[str, float]:
    return ours(job, tree_from=2**62)


def tree(job: dict[str, Any]) -> dict[str, float]:
    return ours(job, tree_from=1)


def cpprb(job: dict[str, Any]) -> dict[str, float]:
    """With replacement, no floor; indices and weights come out, and an item of 8 bytes each."""
    from cpprb import PrioritizedReplayBuffer

    size, count = job["size"], job["count"]
    buffer = PrioritizedReplayBuffer(size, {"item": {"dtype": np.int64}}, alpha=ALPHA, eps=EPSILON)
    buffer.add(item=np.arange(size), priorities=priorities(size))
    rng = np.random.default_rng(1)
    fresh = rng.exponential(1.0, (64, count))
    drawn: list[Any] = [None]

    def draw(_: int) -> None:
        drawn[0] = buffer.sample(count, beta=BETA)

    def update(i: int) -> None:
        buffer.update_priorities(drawn[0]["indexes"], fresh[i % 64])

    def both(i: int) -> None:
        draw(i)
        update(i)

    return {
        "draw_us": timed(job["repeats"], draw),
        "update_us": timed(job["repeats"], update),
        "both_us": timed(job["repeats"], both),
    }


def batch(job: dict[str, Any]) -> dict[str, float]:
    """All that `Drawing` does for a batch, assembly of its tokens included, and for its step."""
    from dataclasses import replace

    from async_r1 import schema
    from async_r1.config import Config
    from async_r1.tasks.protocol import Prompt
    from async_r1.types import FinishReason, Segment, SegmentStatus, VersionSpan
    from buffer.drawing import Drawing
    from buffer.groups import ClosedGroup, Group, close
    from buffer.rollout import Rollout
    from buffer.stats import BufferStats

    def group() -> ClosedGroup:
        prompt = Prompt("train/0", text="?", answer="0", level=1)
        members = []
        for member in range(job["group_size"]):
            rollout = Rollout(rollout_id=member, group_id=0, member=member, prompt=prompt)
            rollout.lease(
                b"a", version=0, seed=0, token_budget=0, max_new_tokens=job["tokens"],
                temperature=1.0,
            )  # fmt: skip
            rollout.accept(
                Segment(
                    rollout_id=member, lease_epoch=1, token_offset=0, prefix_hash=0,
                    status=SegmentStatus.FINISHED, finish_reason=FinishReason.STOP,
                    spans=(VersionSpan(0, job["tokens"]),), prefill_version=0, swaps=(),
                    token_ids=np.zeros(job["tokens"], np.int32),
                    behavior_logprobs=np.zeros(job["tokens"], np.float32),
                    prompt_ids=np.zeros(16, np.int32),
                ),
                b"a",
                0,
            )  # fmt: skip
            rollout.score(1, {"task": float(member % 2), "total": float(member % 2)}, "")
            members.append(rollout)
        opened = Group(group_id=0, prompt=prompt, members=members, opened_version=0, opened_at=0.0)
        return close(opened)

    config = schema.build(
        Config,
        {
            "buffer": {
                "sampler": "prioritized", "max_size": job["size"], "max_times_sampled": 10**6,
                "group_size": job["group_size"], "priority": {"factors": ["surprise"]},
                "samples_per_insert": 1.0, "samples_per_insert_tolerance": 1e9,
            },
            "learner": {"groups_per_update": job["groups"]},
            "staleness": {"eta": 10**6},
        },
    )  # fmt: skip
    drawing = Drawing(config, BufferStats())
    template = group()
    for group_id in range(job["size"]):
        drawing.admission.opened()
        drawing.put(replace(template, group_id=group_id))
    rng = np.random.default_rng(0)

    def step(_: int) -> None:
        made = drawing.draw(0, [])
        assert made is not None
        drawing.acknowledged(made.batch_id)
        ids = np.unique(made.item_ids)
        drawing.surprised(ids.tolist(), rng.exponential(1.0, len(ids)).tolist())

    return {"batch_us": timed(job["repeats"], step, time.process_time)}


def step(job: dict[str, Any]) -> dict[str, float]:
    """One optimizer step of the nano model on a batch of the demo's size, one thread."""
    from learner.quiet import quiet_libraries

    quiet_libraries()
    import torch

    torch.set_num_threads(1)
    from async_r1 import schema
    from async_r1.advantages import group_centred
    from async_r1.config import Config
    from async_r1.types import Batch
    from learner.backend import Backend
    from learner.model import load_policy
    from learner.ranks import join
    from learner.trainer import Trainer

    config = schema.build(Config, {"model": {"path": job["model"]}, "learner": {"lr": 1e-4}})
    ranks = join(0, 1, 60.0)
    policy = load_policy(config.model, config.learner, temperature=1.0)
    trainer = Trainer(config, Backend(policy, config.learner, ranks), None)
    groups, size, tokens = job["groups"], job["group_size"], job["tokens"]
    rng, rollouts = np.random.default_rng(0), groups * size
    ids = np.repeat(np.arange(groups, dtype=np.int32), size)
    rewards = np.tile(np.arange(size, dtype=np.float32) % 2, groups)
    ints = np.ones(rollouts, np.int32)
    made = Batch(
        batch_id=1, policy_version=0,
        prompt_ids=np.repeat(rng.integers(5, 100, groups), 16 * size).astype(np.int32),
        prompt_lens=16 * ints, token_ids=rng.integers(5, 100, rollouts * tokens).astype(np.int32),
        completion_lens=tokens * ints,
        behavior_logprobs=np.full(rollouts * tokens, -4.6, np.float32),
        versions=np.zeros(rollouts * tokens, np.int32), mask=np.ones(rollouts * tokens, np.uint8),
        rewards=rewards, advantages=np.tile(group_centred(rewards[:size]), groups), groups=ids,
        inclusion_probs=np.ones(rollouts, np.float32), item_ids=ids, rollout_ids=ints, levels=ints,
        truncated=np.zeros(rollouts, np.uint8),
    )  # fmt: skip
    median = timed(job["repeats"], lambda i: trainer.update(made, i + 1), time.process_time)
    ranks.close()
    return {"step_us": median}


if __name__ == "__main__":
    sides = {f.__name__: f for f in (ours, flat, tree, cpprb, batch, step)}
    print(json.dumps(sides[sys.argv[1]](json.loads(sys.argv[2]))))
