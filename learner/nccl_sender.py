"""Weights by packed NCCL broadcast to vLLM's built-in `nccl` transfer engine."""

import threading
from collections.abc import Callable
from typing import Any

import torch

from async_r1.ports import free_port
from learner.weight_senders import Member, Tensors

BUFFER_BYTES = 256 << 20
NUM_BUFFERS = 2


class NcclSender:
    """Rank 0 of an NCCL group over vLLM's stateless communicator.

    NCCL calls have no deadline of their own: they run on a daemon thread, so that a dead member
    becomes an error here instead of a hang.
    """

    def __init__(self, host: str, device: torch.device, timeout_s: float) -> None:
        self._host = host
        self._device = device
        self._timeout_s = timeout_s
        self._world_size = 1
        self._port = 0
        self._metadata: dict[str, Any] = {}
        self._group: Any = None

    def open(self, members: list[Member], tensors: Tensors) -> list[dict[str, Any]]:
        self.close()
        self._port = free_port(self._host)
        self._world_size = 1 + sum(member.world_size for member in members)
        self._metadata = {
            "names": [name for name, _ in tensors],
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for _, tensor in tensors],
            "shapes": [list(tensor.shape) for _, tensor in tensors],
        }
        infos, rank = [], 1
        for member in members:
            infos.append(
                {
                    "master_address": self._host,
                    "master_port": self._port,
                    "rank_offset": rank,
                    "world_size": self._world_size,
                    "packed": True,
                    "packed_buffer_size_bytes": BUFFER_BYTES,
                    "packed_num_buffers": NUM_BUFFERS,
                }
            )
            rank += member.world_size
        return infos

    def connect(self) -> None:
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        rendezvous = {
            "master_address": self._host,
            "master_port": self._port,
            "world_size": self._world_size,
        }

        def join() -> None:
            torch.cuda.set_device(self._device)
            self._group = trainer_init(rendezvous)

        self._with_deadline(join, "NCCL rendezvous")

    def stage(self, tensors: Tensors) -> None:
        """Nothing to do: members receive while `send` sends."""

    def update_info(self, version: int) -> dict[str, Any]:
        return self._metadata

    def send(self, tensors: Tensors) -> None:
        from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer

        def broadcast() -> None:
            torch.cuda.set_device(self._device)
            torch.cuda.synchronize()  # the producer reads on streams of its own
            packed_nccl_broadcast_producer(
                iterator=((name, tensor.to(self._device)) for name, tensor in tensors),
                group=self._group,
                src=0,
                post_iter_func=lambda item: item[1].contiguous(),
                buffer_size_bytes=BUFFER_BYTES,
                num_buffers=NUM_BUFFERS,
            )
            torch.cuda.synchronize(self._device)

        self._with_deadline(broadcast, "NCCL broadcast")

    def close(self) -> None:
        if self._group is not None:
            self._group.destroy()
            self._group = None

    def _with_deadline(self, action: Callable[[], None], what: str) -> None:
        failure: list[BaseException] = []

        def guarded() -> None:
            try:
                action()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=guarded, name=what, daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if thread.is_alive():
            self._group = None  # destroying it would wait for the dead member
            raise RuntimeError(f"{what} made no end within {self._timeout_s:g} s")
        if failure:
            raise RuntimeError(f"{what}: {failure[0]}") from failure[0]
