"""What a closed group tells the curriculum."""

import numpy as np

from buffer.curriculum.protocol import Outcome
from buffer.groups import ClosedGroup


def outcome_of(closed: ClosedGroup) -> Outcome:
    """The outcome of a group with scored members."""
    tokens = sum(rollout.num_tokens for rollout in closed.rollouts)
    versions = sum(int(rollout.versions.sum(dtype=np.int64)) for rollout in closed.rollouts)
    return Outcome(
        prompt=closed.prompt_index,
        successes=float(sum(closed.right)),
        trials=len(closed.rollouts),
        version=versions // tokens if tokens else closed.oldest_version,
        zero_variance=closed.zero_variance,
        abs_advantage=float(np.abs(closed.advantages).mean()),
        reward=float(closed.task_rewards.mean()),
    )
