"""Weight transfer by gloo broadcast, behind vLLM's weight-transfer interface.

Runs inside the vLLM worker. Rank 0 of the group is the learner; this worker is
`rank_offset + its rank inside the engine`. Buckets arrive as bytes and are loaded through
vLLM's layerwise reload, as the built-in NCCL engine does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

from async_r1.errors import TransferError
from async_r1.weight_buckets import Bucket, ParameterSpec, plan_buckets


@dataclass
class GlooInitInfo(WeightTransferInitInfo):
    """Rendezvous at the learner's TCP store, and the parameters every update will bring."""

    host: str
    port: int
    rank_offset: int
    world_size: int
    timeout_s: float
    bucket_bytes: int
    parameters: list[Any]  # [name, dtype, shape] each


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """One update; its parameters are those of the init info."""

    policy_version: int


class GlooWeightTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """Receives whole checkpoints from the learner over a gloo process group."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo
    _group: ProcessGroupGloo | None = None
    _buckets: list[Bucket]

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Join the learner's group.

        Raises:
            TransferError: the learner's store or a member did not answer within the timeout.
        """
        self.shutdown()
        timeout = timedelta(seconds=init_info.timeout_s)
        rank = init_info.rank_offset + self.parallel_config.rank
        specs = [ParameterSpec(name, dtype, tuple(s)) for name, dtype, s in init_info.parameters]
        self._buckets = plan_buckets(specs, init_info.bucket_bytes)
        try:
            store = TCPStore(init_info.host, init_info.port, timeout=timeout, is_master=False)
            self._group = ProcessGroupGloo(store, rank, init_info.world_size, timeout)
        except RuntimeError as error:
            raise TransferError(
                f"no weight group with the learner at {init_info.host}:{init_info.port} "
                f"within {init_info.timeout_s:g} s: {error}"
            ) from error

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """Receive every bucket and load its parameters.

        Raises:
            TransferError: the learner or another member left during the broadcast.
        """
        if self._group is None:
            raise TransferError("weights announced before this engine joined a weight group")
        self.model.load_weights(self._parameters(update_info.policy_version))

    def _parameters(self, policy_version: int) -> Iterator[tuple[str, torch.Tensor]]:
        for bucket in self._buckets:
            flat = torch.empty(bucket.num_bytes, dtype=torch.uint8)
            try:
                assert self._group is not None
                self._group.broadcast([flat], BroadcastOptions()).wait()
            except RuntimeError as error:
                raise TransferError(
                    f"broadcast of version {policy_version} from the learner broke: {error}"
                ) from error
            for spec, offset in zip(bucket.specs, bucket.offsets, strict=True):
                part = flat[offset : offset + spec.num_bytes]
                tensor = part.view(getattr(torch, spec.dtype)).view(spec.shape)
                yield spec.name, tensor.to(self.device)

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        tied = getattr(self.model_config.hf_config, "tie_word_embeddings", False)
        if tied and self.device.type == "cpu":
            _refresh_tied_head(self.model)

    def shutdown(self) -> None:
        self._group = None


def _refresh_tied_head(model: torch.nn.Module) -> None:
    """Prepack a tied output head again.

    With tied embeddings the CPU backend keeps a prepacked copy of the head that the layerwise
    reload does not refresh: without this, logits stay on the old head although the parameter
    shows the new values.
    """
    head: Any = getattr(model, "lm_head", None)
    if hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)
