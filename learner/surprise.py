"""How far the policy has moved on the items of a batch: what their priorities are told."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from async_r1.types import Batch
from learner.batching import MicroBatch
from learner.ranks import Ranks


@dataclass(frozen=True)
class Surprise:
    """Mean |log pi - log mu| over the trained tokens of each item."""

    item_ids: NDArray[np.int32]  # [I], ascending; those without a trained token are left out
    values: NDArray[np.float32]  # [I]


class SurpriseMeter:
    """Adds up |log pi - log mu| by item over the micro-batches of a rank, then over ranks."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        self._item_ids, items = np.unique(batch.item_ids, return_inverse=True)
        self._items = torch.from_numpy(items.astype(np.int64)).to(device)  # [R] index of the item
        # Sums and, beside them, numbers of tokens: [2, I].
        self._sums = torch.zeros(2, len(self._item_ids), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, batch: MicroBatch, logprobs: Tensor) -> None:
        """Count a micro-batch, from the log-probs [N] of its tokens."""
        if not len(batch.rows):
            return
        mask = batch.fields["mask"]
        rows = torch.from_numpy(batch.rows).to(logprobs.device)
        item = self._items[rows[batch.sequence]]  # [N]
        moved = (logprobs - batch.fields["behavior_logprobs"]).abs()
        counted = torch.stack([torch.where(mask, moved, 0.0).double(), mask.double()])
        self._sums.index_add_(1, item, counted)

    def reduce(self, ranks: Ranks) -> Surprise:
        """Over all ranks.

        Raises:
            PeerError: a rank is gone.
        """
        sums, counts = ranks.sum(self._sums).cpu().numpy()
        kept = counts > 0
        values = (sums[kept] / counts[kept]).astype(np.float32)
        return Surprise(self._item_ids[kept].astype(np.int32), values)
