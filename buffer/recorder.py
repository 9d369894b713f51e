"""Keeps the best and worst rollouts of every draw as text, for people."""

import json
from typing import Any

import numpy as np

from async_r1.run_dir import RunDir
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout


def record_extremes(run_dir: RunDir, step: int, groups: list[ClosedGroup], count: int) -> None:
    """Write the `count` best and worst rollouts, by total reward, of the groups of a step."""
    pairs = [
        (float(reward), rollout)
        for group in groups
        for reward, rollout in zip(group.rewards, group.rollouts, strict=True)
    ]
    pairs.sort(key=lambda pair: -pair[0])
    worst = pairs[max(count, len(pairs) - count) :]
    rows = [_row(rollout, best=True) for _, rollout in pairs[:count]]
    rows += [_row(rollout, best=False) for _, rollout in worst]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    run_dir.rollouts_file(step).write_text(text)


def _row(rollout: Rollout, *, best: bool) -> dict[str, Any]:
    versions = rollout.versions
    starts = np.flatnonzero(np.diff(versions, prepend=-1))
    counts = np.diff(np.append(starts, len(versions)))
    return {
        "rollout_id": rollout.rollout_id,
        "prompt_id": rollout.prompt.prompt_id,
        "level": rollout.prompt.level,
        "prompt": rollout.prompt.text,
        "text": rollout.text,
        "rewards": rollout.rewards,
        "num_tokens": rollout.num_tokens,
        "versions": [[int(versions[s]), int(n)] for s, n in zip(starts, counts, strict=True)],
        "truncated": rollout.truncated,
        "best": best,
    }
