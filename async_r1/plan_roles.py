"""One process of a plan."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RolePlan:
    """One process to start."""

    kind: str  # "buffer", "actor" or "learner"
    index: int
    threads: int  # compute threads
    env: Mapping[str, str]
    gpus: tuple[str, ...] = ()  # as in CUDA_VISIBLE_DEVICES
    memory_gib: float | None = None  # of each GPU if it has any, else of the host; None: unknown

    @property
    def name(self) -> str:
        """As in its log, its role file and its metrics."""
        return self.kind if self.kind == "buffer" else f"{self.kind}_{self.index:03d}"
