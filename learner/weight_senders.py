"""The learner's end of each weight-transfer backend: gloo and ipc of our own, nccl of vLLM's."""

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

    def stage(self, tensors: Tensors) -> None:
        """Make a version ready before it is announced, where members read it by themselves."""

    def update_info(self, version: int) -> dict[str, Any]:
        """What the members' transfer engines need to receive the next version."""

    def send(self, tensors: Tensors) -> None:
        """Send every tensor; blocks until the transfer is through, or a deadline."""

    def close(self) -> None: ...


def make_sender(config: Config, host: str, device: torch.device) -> Sender:
    """The sender of `weights.backend`; `auto` is gloo on CPU, nccl on GPU, ipc on a shared GPU.

    Raises:
        ConfigError: the backend does not fit the device.
    """
    backend: str = config.weights.backend
    if backend == "auto":
        on_gpu = "ipc" if config.run.colocate else "nccl"
        backend = "gloo" if device.type == "cpu" else on_gpu
    if backend == "gloo":
        from learner.gloo_sender import GlooSender

        return GlooSender(host, config.weights.timeout_s)
    if device.type == "cpu":
        raise ConfigError(f"weights.backend={backend} needs a GPU; use gloo on CPU")
    if backend == "nccl":
        from learner.nccl_sender import NcclSender

        return NcclSender(host, device, config.weights.timeout_s)
    from learner.ipc_sender import IpcSender

    return IpcSender(device)
