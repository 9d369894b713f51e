"""NaN never trains silently: checks, and the batch that caused it, kept for inspection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from async_r1.errors import TrainingError
from async_r1.run_dir import RunDir, write_json
from async_r1.types import Batch
from learner.statistics import Statistics, Totals

_PREFIX = "nonfinite/"


def count_nonfinite(statistics: Statistics, what: str, values: Tensor) -> None:
    """Count NaN and infinity among `values`, without waiting for the device."""
    statistics.add(_PREFIX + what, ~torch.isfinite(values.detach()))


def check(totals: Totals) -> None:
    """Raise if any rank counted something, in the order in which it was counted.

    Raises:
        TrainingError: names what is not finite.
    """
    for what in ("log-probs", "loss", "gradients"):
        count = totals.sums.get(_PREFIX + what, 0.0)
        if count:
            raise TrainingError(f"NaN or infinity in {what} ({count:.0f} values)")


class GradientGuard:
    """Watches every gradient that reaches a parameter, before it is reduced or stepped with.

    Works alike for all ZeRO stages, none of which keeps the gradients in one place.
    """

    def __init__(self, module: nn.Module) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._norms: list[Tensor | None] = [None] * len(named)
        for index, (_, parameter) in enumerate(named):
            parameter.register_hook(lambda grad, index=index: self._watch(index, grad))

    def count(self, statistics: Statistics) -> None:
        """Count the parameters that got a non-finite gradient since the last call."""
        norms = [norm for norm in self._norms if norm is not None]
        if norms:
            count_nonfinite(statistics, "gradients", torch.stack(norms))

    def names(self) -> list[str]:
        """Those parameters by name, on this rank."""
        pairs = zip(self._names, self._norms, strict=True)
        return [name for name, norm in pairs if norm is not None and not torch.isfinite(norm)]

    def reset(self) -> None:
        self._norms = [None] * len(self._norms)

    def _watch(self, index: int, grad: Tensor) -> None:
        norm = torch.linalg.vector_norm(grad, dtype=torch.float32)
        before = self._norms[index]
        self._norms[index] = norm if before is None else before + norm


def finite_weights(weights: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Pass weights on, up to the first that is not finite.

    Raises:
        TrainingError: names the weight.
    """
    for name, weight in weights:
        if not torch.isfinite(weight).all():
            raise TrainingError(f"NaN or infinity in weight {name}")
        yield name, weight


def save_failed_batch(
    run_dir: RunDir, batch: Batch, *, step: int, policy_version: int, error: str
) -> Path:
    """Write RUN/failed_batch/step_NNNNNN.{npz,json}; returns the path of the arrays.

    `numpy.load(path)` reads the arrays of `types.Batch` by name; nothing in it is pickled.
    """
    folder = run_dir.root / "failed_batch"
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:06d}.npz"
    arrays: dict[str, Any] = {
        name: value
        for name in Batch.__dataclass_fields__
        if isinstance(value := getattr(batch, name), np.ndarray)
    }
    np.savez(path, **arrays)
    facts = {
        "error": error,
        "step": step,
        "policy_version": policy_version,
        "batch_id": batch.batch_id,
        "info": batch.info,
    }
    write_json(path.with_suffix(".json"), facts)
    return path
