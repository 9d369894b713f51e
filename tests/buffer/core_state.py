"""Everything of a core that a restart must bring back, as plain values to compare."""

from typing import Any

import numpy as np

from buffer.core import BufferCore
from buffer.rollout import Rollout


def state_of(core: BufferCore) -> dict[str, Any]:
    """Everything that a restart must bring back, plain: equal before and after."""
    state, drawing = core.state, core.drawing
    return {
        "version": state.version,
        "step": state.step,
        "finishing": state.finishing,
        "groups": {
            group.group_id: {
                "prompt": group.prompt_index,
                "opened": [group.opened_version, group.opened_at],
                "members": [_rollout(rollout) for rollout in group.members],
            }
            for group in state.book.groups.values()
        },
        "next_ids": [state.book.next_group, state.book.next_rollout],
        "curriculum": {
            name: plain(value)
            for name, value in state.curriculum.state_dict().items()
            if name != "recent"  # averages of metrics, over draws that nobody chooses again
        },
        "shipped": core.shipped
        and (core.shipped.peer, core.shipped.number, core.shipped.batch_id),
        "drawing": plain(drawing.state_dict()),
        "selection": {
            name: plain(value)
            for name, value in state.stats.selection.state_dict().items()
            if name != "warned_at"
        },
        "table": {
            item_id: [item.rewards.tolist(), item.advantages.tolist(), item.oldest_version,
                      [_rollout(rollout) for rollout in item.rollouts]]
            for item_id, item in drawing.items().items()
        },
        "evals": [
            state.evals.due,
            state.evals.last,
            [r.rollout_id for r in state.evals.running.rollouts] if state.evals.running else None,
        ],
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Arrays as lists, with their types."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def _rollout(rollout: Rollout) -> list[Any]:
    return [
        rollout.rollout_id, rollout.group_id, rollout.member, rollout.prompt.prompt_id,
        rollout.kind, rollout.state, rollout.holder, rollout.lease_epoch, rollout.leased_version,
        rollout.suspended_version, rollout.finish_reason, rollout.rewards, rollout.text,
        rollout.error, None if rollout.prompt_ids is None else rollout.prompt_ids.tolist(),
        rollout.swaps, rollout.lease_starts, rollout.token_ids.tolist(),
        rollout.logprobs.tolist(), rollout.versions.tolist(), rollout.mask.tolist(),
        rollout.prefix_hash,
    ]  # fmt: skip
