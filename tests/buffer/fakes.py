"""A task, rollouts and segments of the tests' own making, small enough to check by eye."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from async_r1 import segment_hash
from async_r1.config import Config
from async_r1.schema import build
from async_r1.tasks.protocol import Completion, Prompt, Split
from async_r1.types import FinishReason, Lease, Segment, SegmentStatus, VersionSpan
from buffer.groups import ClosedGroup, Group, close
from buffer.rollout import Rollout, RolloutState


class FakeTask:
    """Prompts `train/0`, `train/1`, …, with levels 1 to 3 in turn; scores nothing."""

    name = "fake"

    def __init__(self, num_train: int = 1000, num_eval: int = 6) -> None:
        self._sizes = {"train": num_train, "eval": num_eval}

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return [make_prompt(i, split) for i in range(self._sizes[split])]

    def get(self, prompt_id: str) -> Prompt:
        split, _, index = prompt_id.partition("/")
        return make_prompt(int(index), split)

    def score(self, prompt: Prompt, completion: Completion) -> float:
        raise AssertionError("the buffer scores nothing")


def make_prompt(index: int, split: str = "train") -> Prompt:
    return Prompt(f"{split}/{index}", text=f"{index}=?", answer=str(index), level=index % 3 + 1)


def prompt_tokens(prompt_id: str) -> np.ndarray:
    """Tokens that tell a prompt from all others."""
    split, _, index = prompt_id.partition("/")
    return np.asarray([900 if split == "eval" else 901, 1000 + int(index)], np.int32)


def make_config(**sections: Any) -> Config:
    """A small run; each keyword replaces options of a section, or a root option."""
    values: dict[str, Any] = {
        "buffer": {"group_size": 2, "journal": False},
        "learner": {"groups_per_update": 2},
        "eval": {"every": 0},
    }
    for name, value in sections.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return build(Config, values)


def make_segment(
    token_ids: Sequence[int],
    *,
    prefix: Sequence[int] = (),
    versions: Sequence[int] | None = None,
    finish: FinishReason | None = None,
    suspend: bool = False,
    prompt: Sequence[int] | None = (1, 2),
    **fields: Any,
) -> Segment:
    """A segment after `prefix`; log-probs follow from the tokens, versions are 0 unless given."""
    tokens = np.asarray(token_ids, np.int32)
    spans: list[list[int]] = []
    for version in versions if versions is not None else [0] * len(tokens):
        if spans and spans[-1][0] == version:
            spans[-1][1] += 1
        else:
            spans.append([version, 1])
    status = SegmentStatus.SUSPENDED if suspend else SegmentStatus.STREAMING
    values: dict[str, Any] = {
        "rollout_id": 0,
        "lease_epoch": 1,
        "token_offset": len(prefix),
        "prefix_hash": segment_hash.extend(0, np.asarray(prefix, np.int32)),
        "status": SegmentStatus.FINISHED if finish else status,
        "finish_reason": finish,
        "spans": tuple(VersionSpan(version, count) for version, count in spans),
        "prefill_version": 0,
        "swaps": (),
        "token_ids": tokens,
        "behavior_logprobs": logprobs_of(tokens),
        "prompt_ids": None if prompt is None else np.asarray(prompt, np.int32),
    }
    return Segment(**{**values, **fields})


def logprobs_of(tokens: np.ndarray) -> np.ndarray:
    """The behaviour log-probs that the tests give to tokens."""
    return (-np.asarray(tokens, np.float64) / 1000).astype(np.float32)


def lease_to(rollout: Rollout, holder: bytes = b"a", version: int = 0) -> Lease:
    return rollout.lease(
        holder, version=version, seed=0, token_budget=0, max_new_tokens=100, temperature=1.0
    )


def scored_rollout(
    rollout_id: int,
    *,
    group_id: int = 0,
    member: int = 0,
    total: float = 0.0,
    task: float | None = None,
    versions: Sequence[int] = (0, 0, 0),
    prompt: Prompt | None = None,
    **fields: Any,
) -> Rollout:
    """A rollout that went through its whole life; its tokens name it."""
    rollout = Rollout(
        rollout_id=rollout_id, group_id=group_id, member=member, prompt=prompt or make_prompt(0)
    )
    lease = lease_to(rollout, version=min(versions))
    tokens = [rollout_id * 10 + i for i in range(len(versions))]
    segment = make_segment(
        tokens,
        versions=versions,
        finish=FinishReason.STOP,
        prompt=prompt_tokens(rollout.prompt.prompt_id).tolist(),
        rollout_id=rollout_id,
        lease_epoch=lease.lease_epoch,
        **fields,
    )
    rollout.accept(segment, b"a", max(versions))
    rewards = {"total": total, "task": total if task is None else task}
    rollout.score(lease.lease_epoch, rewards, f"text of {rollout_id}")
    assert rollout.state is RolloutState.SCORED
    return rollout


def closed_group(
    group_id: int,
    totals: Sequence[float],
    *,
    tasks: Sequence[float] | None = None,
    versions: Sequence[Sequence[int]] | None = None,
    opened_version: int = 0,
    **fields: Any,
) -> ClosedGroup:
    """A closed group on the prompt `train/<group_id>`."""
    prompt = make_prompt(group_id)
    members = [
        scored_rollout(
            100 * group_id + i,
            group_id=group_id,
            member=i,
            total=total,
            task=total if tasks is None else tasks[i],
            versions=(opened_version,) * 3 if versions is None else versions[i],
            prompt=prompt,
            **fields,
        )
        for i, total in enumerate(totals)
    ]
    group = Group(
        group_id=group_id,
        prompt=prompt,
        members=members,
        opened_version=opened_version,
        opened_at=0.0,
    )
    return close(group)
