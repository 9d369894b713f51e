"""Weight transfer through memory of a shared GPU, behind vLLM's weight-transfer interface.

Runs inside the vLLM worker. The learner's buffer is mapped once, at the join; an update reads it.
vLLM's own `ipc` engine is not used: it takes handles that were pickled.
"""

from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from async_r1.errors import TransferError
from async_r1.weight_buckets import ParameterSpec, plan_buckets


@dataclass
class IpcInitInfo(WeightTransferInitInfo):
    """The learner's buffer and what is in it."""

    gpu: str
    handle: dict[str, Any]  # plain values, as `learner.ipc_sender.export` gives them
    num_bytes: int
    parameters: list[Any]  # [name, dtype, shape] each


@dataclass
class IpcUpdateInfo(WeightTransferUpdateInfo):
    """The buffer holds this version now."""

    policy_version: int


class IpcWeightTransferEngine(WeightTransferEngine[IpcInitInfo, IpcUpdateInfo]):
    """Reads whole checkpoints out of the learner's buffer."""

    init_info_cls = IpcInitInfo
    update_info_cls = IpcUpdateInfo
    _flat: torch.Tensor | None = None
    _specs: list[ParameterSpec]

    def init_transfer_engine(self, init_info: IpcInitInfo) -> None:
        """Map the learner's buffer.

        Raises:
            TransferError: it is on another GPU, or cannot be mapped.
        """
        self.shutdown()
        here = gpu_identity(self.device)
        if init_info.gpu != here:
            raise TransferError(
                f"run.colocate: the learner is on GPU {init_info.gpu}, this engine on {here}"
            )
        self._specs = [ParameterSpec(n, dtype, tuple(s)) for n, dtype, s in init_info.parameters]
        try:
            self._flat = map_buffer(init_info.handle, self.device)
        except (RuntimeError, TypeError, KeyError) as error:
            raise TransferError(f"the learner's buffer cannot be mapped: {error}") from error
        if self._flat.numel() < init_info.num_bytes:
            raise TransferError(
                f"the learner's buffer must have {init_info.num_bytes} bytes, "
                f"got {self._flat.numel()}"
            )

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: IpcUpdateInfo) -> None:
        """Load every parameter out of the buffer.

        Raises:
            TransferError: no buffer is mapped.
        """
        if self._flat is None:
            raise TransferError("weights announced before this engine joined a weight group")
        (bucket,) = plan_buckets(self._specs, self._flat.numel() + 1)
        self.model.load_weights(
            (spec.name, self._view(spec, offset))
            for spec, offset in zip(bucket.specs, bucket.offsets, strict=True)
        )

    def _view(self, spec: ParameterSpec, offset: int) -> torch.Tensor:
        assert self._flat is not None
        part = self._flat[offset : offset + spec.num_bytes]
        return part.view(getattr(torch, spec.dtype)).view(spec.shape)

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the learner may write again once we answer

    def shutdown(self) -> None:
        self._flat = None


def gpu_identity(device: torch.device) -> str:
    """The same in every process, whatever CUDA_VISIBLE_DEVICES says."""
    return str(torch.cuda.get_device_properties(device).uuid)


def map_buffer(handle: dict[str, Any], device: torch.device) -> torch.Tensor:
    """The bytes of a storage that another process exported."""
    storage = torch.UntypedStorage._new_shared_cuda(
        device.index,
        handle["handle"],
        handle["size"],
        handle["offset"],
        handle["ref_counter"],
        handle["ref_counter_offset"],
        handle["event"],
        handle["event_sync"],
    )
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
