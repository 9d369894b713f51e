"""Weights by gloo broadcast, in buckets of bytes."""

from datetime import timedelta
from typing import Any

import torch
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

from async_r1.weight_buckets import Bucket, ParameterSpec, plan_buckets
from learner.weight_senders import Member, Tensors

BUCKET_BYTES = 64 << 20


class GlooSender:
    """Rank 0 of a gloo group; the store that the members meet at lives here."""

    def __init__(self, host: str, timeout_s: float) -> None:
        self._host = host
        self._timeout = timedelta(seconds=timeout_s)
        self._world_size = 1
        self._buckets: list[Bucket] = []
        self._store: TCPStore | None = None
        self._group: ProcessGroupGloo | None = None

    def open(self, members: list[Member], tensors: Tensors) -> list[dict[str, Any]]:
        self.close()
        specs = [
            ParameterSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for name, tensor in tensors
        ]
        self._buckets = plan_buckets(specs, BUCKET_BYTES)
        self._world_size = 1 + sum(member.world_size for member in members)
        self._store = TCPStore(
            self._host, 0, is_master=True, wait_for_workers=False, timeout=self._timeout
        )
        parameters = [[spec.name, spec.dtype, list(spec.shape)] for spec in specs]
        infos, rank = [], 1
        for member in members:
            infos.append(
                {
                    "host": self._host,
                    "port": self._store.port,
                    "rank_offset": rank,
                    "world_size": self._world_size,
                    "timeout_s": self._timeout.total_seconds(),
                    "bucket_bytes": BUCKET_BYTES,
                    "parameters": parameters,
                }
            )
            rank += member.world_size
        return infos

    def connect(self) -> None:
        assert self._store is not None
        self._group = ProcessGroupGloo(self._store, 0, self._world_size, self._timeout)

    def stage(self, tensors: Tensors) -> None:
        """Nothing to do: members receive while `send` sends."""

    def update_info(self, version: int) -> dict[str, Any]:
        return {"policy_version": version}

    def send(self, tensors: Tensors) -> None:
        assert self._group is not None
        by_name = dict(tensors)
        for bucket in self._buckets:
            flat = torch.zeros(bucket.num_bytes, dtype=torch.uint8)
            for spec, offset in zip(bucket.specs, bucket.offsets, strict=True):
                source = by_name[spec.name].contiguous().view(-1).view(torch.uint8)
                flat[offset : offset + spec.num_bytes].copy_(source)  # from a GPU, too
            self._group.broadcast([flat], BroadcastOptions()).wait()

    def close(self) -> None:
        self._group = None
        self._store = None
