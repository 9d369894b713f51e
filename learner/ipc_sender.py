"""Weights through memory of a GPU that learner and actors share (CUDA IPC).

One flat buffer holds a whole version. Each member maps it when it joins and reads it at each
update; the learner writes it before it announces a version, and waits until all have read. What
travels over the network is plain integers and bytes: nothing is pickled.
"""

from typing import Any

import torch

from async_r1.weight_buckets import Bucket, ParameterSpec, plan_buckets
from learner.weight_senders import Member, Tensors


class IpcSender:
    """Owner of the buffer."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flat: torch.Tensor | None = None
        self._bucket: Bucket | None = None

    def open(self, members: list[Member], tensors: Tensors) -> list[dict[str, Any]]:
        """
        Raises:
            RuntimeError: the GPU has no room for another copy of the model.
        """
        self.close()
        specs = [
            ParameterSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for name, tensor in tensors
        ]
        (self._bucket,) = plan_buckets(specs, sum(t.nbytes + 16 for _, t in tensors))
        self._flat = torch.zeros(self._bucket.num_bytes, dtype=torch.uint8, device=self._device)
        parameters = [[spec.name, spec.dtype, list(spec.shape)] for spec in specs]
        # An export for each member: each counts one reader.
        return [
            {
                "gpu": gpu_identity(self._device),
                "handle": export(self._flat),
                "num_bytes": self._bucket.num_bytes,
                "parameters": parameters,
            }
            for _ in members
        ]

    def connect(self) -> None:
        """Members map the buffer on their own."""

    def stage(self, tensors: Tensors) -> None:
        assert self._bucket is not None and self._flat is not None
        by_name = dict(tensors)
        for spec, offset in zip(self._bucket.specs, self._bucket.offsets, strict=True):
            source = by_name[spec.name].contiguous().view(-1).view(torch.uint8)
            self._flat[offset : offset + spec.num_bytes].copy_(source)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # readers are other processes: no stream orders us

    def update_info(self, version: int) -> dict[str, Any]:
        return {"policy_version": version}

    def send(self, tensors: Tensors) -> None:
        """It is there already; the members' answers say that they have read it."""

    def close(self) -> None:
        self._flat = self._bucket = None


def gpu_identity(device: torch.device) -> str:
    """The same in every process, whatever CUDA_VISIBLE_DEVICES says."""
    return str(torch.cuda.get_device_properties(device).uuid)


def export(flat: torch.Tensor) -> dict[str, Any]:
    """What another process needs to map the storage of a CUDA tensor, as plain values."""
    names = (
        *("device", "handle", "size", "offset"),
        *("ref_counter", "ref_counter_offset", "event", "event_sync"),
    )
    return dict(zip(names, flat.untyped_storage()._share_cuda_(), strict=True))
