"""The learner's ranks and what they say to each other beside gradients.

Rank 0 alone talks to the rest of the run. Everything here goes over gloo in host memory, also
where gradients go over NCCL.
"""

import os
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from async_r1.errors import ConfigError, PeerError
from async_r1.ports import free_port
from learner.statistics import Statistics, Totals

_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


class Ranks:
    """This process among the learner's ranks; every method but `close` is a collective."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device
        self._control = dist.new_group(backend="gloo") if device.type == "cuda" else None

    def broadcast_frames(self, frames: Sequence[bytes | memoryview] | None) -> list[memoryview]:
        """The frames that rank 0 passes, on every rank, as raw bytes.

        Raises:
            PeerError: a rank is gone.
        """
        if self.size == 1:
            assert frames is not None
            return [memoryview(frame) for frame in frames]
        sizes = [memoryview(frame).nbytes for frame in frames or ()]
        count = torch.tensor([len(sizes)])
        self._broadcast(count)
        lens = torch.tensor(sizes) if frames else torch.zeros(int(count), dtype=torch.int64)
        self._broadcast(lens)
        payload = torch.zeros(int(lens.sum()), dtype=torch.uint8)
        if frames:
            joined = np.frombuffer(b"".join(frames), np.uint8)
            payload.numpy()[:] = joined
        self._broadcast(payload)
        stops = np.cumsum(lens.numpy())
        view = memoryview(payload.numpy())
        return [view[stop - size : stop] for stop, size in zip(stops, lens.tolist(), strict=True)]

    def reduce(self, statistics: Statistics) -> Totals:
        """Sums and maxima over all ranks; every rank must bring the same names.

        Raises:
            PeerError: a rank is gone.
        """
        reduced = []
        for values, op in (
            (statistics.sums, dist.ReduceOp.SUM),
            (statistics.maxima, dist.ReduceOp.MAX),
        ):
            names = sorted(values)
            stacked = torch.stack([values[name] for name in names]).cpu() if names else None
            if stacked is not None and self.size > 1:
                self._collective(lambda t=stacked, op=op: dist.all_reduce(t, op, self._control))
            totals = stacked.tolist() if stacked is not None else []
            reduced.append(dict(zip(names, totals, strict=True)))
        return Totals(*reduced)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of every rank's tensor, all of the same shape, on the CPU.

        Raises:
            PeerError: a rank is gone.
        """
        total = values.cpu()
        if self.size > 1:
            self._collective(lambda: dist.all_reduce(total, group=self._control))
        return total

    def barrier(self) -> None:
        """Return when every rank has come here.

        Raises:
            PeerError: a rank is gone.
        """
        if self.size > 1:
            self._collective(lambda: dist.all_reduce(torch.zeros(1), group=self._control))

    def close(self) -> None:
        """Leave the process group."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def _broadcast(self, tensor: torch.Tensor) -> None:
        self._collective(lambda: dist.broadcast(tensor, 0, self._control))

    def _collective(self, call) -> None:
        try:
            call()
        except RuntimeError as error:
            raise PeerError(
                f"learner_{self.rank:03d} lost another learner rank: {error}"
            ) from error


def join(index: int, size: int, timeout_s: float) -> Ranks:
    """Join the other ranks at MASTER_ADDR:MASTER_PORT; a single rank needs no environment.

    Args:
        timeout_s: deadline of a collective, so of one rank's wait for another.

    Raises:
        ConfigError: the launcher's variables are absent, or name another rank or size.
    """
    if size == 1:
        os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(free_port("127.0.0.1")))
    missing = [name for name in _RENDEZVOUS if name not in os.environ]
    if missing:
        raise ConfigError(
            f"learner.ranks is {size}, but {', '.join(missing)} is not in the environment of "
            f"learner_{index:03d}; start it with async_r1 launch, or set what torchrun sets"
        )
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if (rank, world) != (index, size):
        raise ConfigError(
            f"learner_{index:03d} of {size} was started with RANK={rank}, WORLD_SIZE={world}"
        )
    device = _device(rank)
    import deepspeed

    # Else DeepSpeed compiles a C++ extension here, which nothing in training uses.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(seconds=timeout_s)
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False, timeout=timeout)
    return Ranks(rank, size, device)


def _device(rank: int) -> torch.device:
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local = int(os.environ.setdefault("LOCAL_RANK", str(rank % devices if devices else rank)))
    if not devices:
        return torch.device("cpu")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
