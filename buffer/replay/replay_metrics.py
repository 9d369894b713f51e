"""What draws and priorities say about themselves in the metric rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from buffer.groups import ClosedGroup
from buffer.replay.priorities import Priorities
from buffer.replay.prioritized import Prioritized
from buffer.table import Table


def of_draw(
    table: Table[ClosedGroup], priorities: Priorities, item_ids: Sequence[int]
) -> dict[str, Any]:
    """Of the items that a batch is about to take, for the learner's row."""
    times = [table.times_sampled(item_id) + 1 for item_id in item_ids]
    values = [priorities.priority(item_id) for item_id in item_ids]
    sampler = table.sampler
    share = sampler.uniform_share if isinstance(sampler, Prioritized) else 0.0
    return {
        "replay/times_sampled_mean": float(np.mean(times)),
        "replay/times_sampled_max": max(times),
        "replay/priority_drawn_mean": float(np.mean(values)),
        "replay/uniform_share": share,
    }


def of_table(table: Table[ClosedGroup], priorities: Priorities) -> dict[str, Any]:
    """Of all items that can be drawn, for the buffer's row; absent while there are none."""
    if not len(table):
        return {}
    values = np.asarray([priorities.priority(item_id) for item_id in table.items()])
    row = {
        "replay/priority_mean": float(values.mean()),
        "replay/priority_max": float(values.max()),
    }
    if isinstance(table.sampler, Prioritized):
        shares = table.sampler.probabilities()
        row["replay/effective_items"] = float(1.0 / np.sum(shares**2))
    return row
