"""Drawn groups to the flat arrays that the learner trains on."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from async_r1.types import Batch
from buffer.groups import ClosedGroup
from buffer.rollout import Rollout
from buffer.staleness import Staleness
from buffer.table import Draw

T = TypeVar("T", bound=np.generic)


def assemble(
    draw: Draw[ClosedGroup],
    *,
    batch_id: int,
    policy_version: int,
    staleness: Staleness,
    info: dict[str, Any],
    beta: float = 0.0,
) -> Batch:
    """One batch for `policy_version`: groups in lease order, members in order.

    Every scored member of an item is there, masked ones too: the baseline counted them. Items of
    one group, if they are single rollouts, are one group of the batch.
    """
    order = np.argsort(draw.item_ids, kind="stable")
    groups = [draw.items[i] for i in order]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    sizes = [len(group.rollouts) for group in groups]
    group_ids = [group.group_id for group in groups]
    masks = [
        rollout.mask & staleness.mask(rollout.versions, policy_version) for rollout in rollouts
    ]
    return Batch(
        batch_id=batch_id,
        policy_version=policy_version,
        prompt_ids=_flat([_prompt(rollout) for rollout in rollouts], np.int32),
        prompt_lens=_ints(len(_prompt(rollout)) for rollout in rollouts),
        token_ids=_flat([rollout.token_ids for rollout in rollouts], np.int32),
        completion_lens=_ints(rollout.num_tokens for rollout in rollouts),
        behavior_logprobs=_flat([rollout.logprobs for rollout in rollouts], np.float32),
        versions=_flat([rollout.versions for rollout in rollouts], np.int32),
        mask=_flat(masks, np.uint8),
        rewards=_flat([group.rewards for group in groups], np.float32),
        advantages=_flat([group.advantages for group in groups], np.float32),
        groups=np.repeat(np.unique(group_ids, return_inverse=True)[1], sizes).astype(np.int32),
        inclusion_probs=np.repeat(
            np.asarray([draw.inclusion_probs[i] for i in order], dtype=np.float32), sizes
        ),
        item_ids=np.repeat(np.asarray([draw.item_ids[i] for i in order], dtype=np.int32), sizes),
        rollout_ids=_ints(rollout.rollout_id for rollout in rollouts),
        levels=_ints(rollout.prompt.level for rollout in rollouts),
        truncated=np.asarray([rollout.truncated for rollout in rollouts], dtype=np.uint8),
        info=info,
        num_items=draw.population,
        beta=beta,
    )


def _prompt(rollout: Rollout) -> NDArray[np.int32]:
    assert rollout.prompt_ids is not None, rollout.rollout_id
    return rollout.prompt_ids


def _flat(arrays: Sequence[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    return np.concatenate([np.zeros(0, dtype), *arrays])


def _ints(values: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(values, dtype=np.int32)
