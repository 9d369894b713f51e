"""Keeps a few telling rollouts of every draw as text, for people."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from async_r1.channels import peer_name
from async_r1.run_dir import RunDir
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout


def record_extremes(
    run_dir: RunDir,
    step: int,
    groups: list[ClosedGroup],
    count: int,
    failed: Sequence[Rollout] = (),
) -> None:
    """Write the `count` best and worst rollouts, by total reward, of the groups of a step, and
    the one each with the most versions, the most leases and the most tokens; none if `count` is 0.

    Of the rollouts that `failed` to be scored, the first `count` are kept too, with their error.
    A row names in `kept` what it was kept for.
    """
    pairs = [
        (float(reward), rollout)
        for group in groups
        for reward, rollout in zip(group.rewards, group.rollouts, strict=True)
    ]
    pairs.sort(key=lambda pair: -pair[0])
    worst = pairs[max(count, len(pairs) - count) :]
    kept: dict[int, tuple[Rollout, list[str]]] = {}
    chosen = [(rollout, "best") for _, rollout in pairs[:count]]
    chosen += [(rollout, "worst") for _, rollout in worst]
    if count and pairs:
        rollouts = [rollout for _, rollout in pairs]
        chosen += [(max(rollouts, key=key), name) for name, key in _MOST.items()]
    chosen += [(rollout, "reward error") for rollout in failed[:count]]
    for rollout, name in chosen:
        kept.setdefault(rollout.rollout_id, (rollout, []))[1].append(name)
    text = "".join(json.dumps(_row(rollout, names)) + "\n" for rollout, names in kept.values())
    run_dir.rollouts_file(step).write_text(text)


_MOST: dict[str, Callable[[Rollout], int]] = {
    "most versions": lambda rollout: len(np.unique(rollout.versions)),
    "most leases": lambda rollout: len(rollout.lease_starts),
    "longest": lambda rollout: rollout.num_tokens,
}


def _row(rollout: Rollout, kept: list[str]) -> dict[str, Any]:
    versions = rollout.versions
    starts = np.flatnonzero(np.diff(versions, prepend=-1))
    counts = np.diff(np.append(starts, len(versions)))
    ends = [*(start for start, _ in rollout.lease_starts), rollout.num_tokens][1:]
    return {
        "rollout_id": rollout.rollout_id,
        "prompt_id": rollout.prompt.prompt_id,
        "level": rollout.prompt.level,
        "prompt": rollout.prompt.text,
        "text": rollout.text,
        "rewards": rollout.rewards,
        "error": rollout.error,
        "num_tokens": rollout.num_tokens,
        "token_ids": rollout.token_ids.tolist(),
        "versions": [[int(versions[s]), int(n)] for s, n in zip(starts, counts, strict=True)],
        "leases": [
            [peer_name(holder), end - start]
            for (start, holder), end in zip(rollout.lease_starts, ends, strict=True)
        ],
        "swaps": rollout.swaps,
        "truncated": rollout.truncated,
        "kept": kept,
    }
