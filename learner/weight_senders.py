"""The learner's end of each weight-transfer backend: gloo of our own, nccl of vLLM's."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from async_r1.config import Config
from async_r1.errors import ConfigError

Tensors = list[tuple[str, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Member:
    """One actor engine: its name and its number of workers."""

    name: str
    world_size: int


class Sender(Protocol):
    """Rank 0 of the transfer group."""

    def open(self, members: list[Member], tensors: Tensors) -> list[dict[str, Any]]:
        """Prepare a group; returns each member's init info for its vLLM transfer engine."""

    def connect(self) -> None:
        """Join the group that `open` prepared; blocks until the members did, or a deadline."""

    def update_info(self, version: int) -> dict[str, Any]:
        """What the members' transfer engines need to receive the next version."""

    def send(self, tensors: Tensors) -> None:
        """Send every tensor; blocks until the transfer is through, or a deadline."""

    def close(self) -> None: ...


def make_sender(config: Config, host: str, device: torch.device) -> Sender:
    """The sender of `weights.backend`; `auto` is gloo on CPU and nccl on GPU.

    Raises:
        ConfigError: the backend does not fit the device.
    """
    backend = config.weights.backend
    if backend == "auto":
        backend = "gloo" if device.type == "cpu" else "nccl"
    if backend == "gloo":
        from learner.gloo_sender import GlooSender

        return GlooSender(host, config.weights.timeout_s)
    if device.type == "cpu":
        raise ConfigError(f"weights.backend={backend} needs a GPU; use gloo on CPU")
    if backend == "nccl":
        from learner.nccl_sender import NcclSender

        return NcclSender(host, device, config.weights.timeout_s)
    raise ConfigError(f"weights.backend={backend} is not available; use nccl")
