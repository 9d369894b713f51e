"""The engine that reads the learner's buffer, against the sender that fills it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors import ipc_engine
from actors.engine_args import weight_backend
from async_r1.config import Config
from async_r1.errors import TransferError
from async_r1.schema import build

pytestmark = pytest.mark.slow  # vLLM is imported


class Model:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.loaded: dict[str, torch.Tensor] = {}

    def load_weights(self, weights: Any) -> None:
        self.loaded = {name: tensor.clone() for name, tensor in weights}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ipc_engine.IpcWeightTransferEngine:
    monkeypatch.setattr(ipc_engine, "gpu_identity", lambda device: "GPU-1")
    vllm_config: Any = SimpleNamespace(parallel_config=None, model_config=None)
    config: Any = None
    model: Any = Model()
    return ipc_engine.IpcWeightTransferEngine(config, vllm_config, torch.device("cpu"), model)


def connect(
    engine: ipc_engine.IpcWeightTransferEngine, monkeypatch: pytest.MonkeyPatch, **changed: Any
) -> tuple[Any, list[tuple[str, torch.Tensor]]]:
    from learner import ipc_sender
    from learner.weight_senders import Member

    monkeypatch.setattr(ipc_sender, "gpu_identity", lambda device: "GPU-1")
    monkeypatch.setattr(ipc_sender, "export", lambda flat: {"flat": flat})
    monkeypatch.setattr(ipc_engine, "map_buffer", lambda handle, device: handle["flat"])
    sender = ipc_sender.IpcSender(torch.device("cpu"))
    tensors = [("a.weight", torch.randn(3, 5)), ("b.weight", torch.randn(9).bfloat16())]
    (info,) = sender.open([Member("actor_000", 1)], tensors)
    engine.init_transfer_engine(engine.parse_init_info({**info, **changed}))
    return sender, tensors


def test_an_update_reads_what_the_sender_staged(
    engine: ipc_engine.IpcWeightTransferEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, tensors = connect(engine, monkeypatch)
    for version in (1, 2):
        tensors = [(name, tensor + version) for name, tensor in tensors]
        sender.stage(tensors)
        engine.receive_weights(engine.parse_update_info(sender.update_info(version)))
        loaded = engine.model.loaded
        assert list(loaded) == ["a.weight", "b.weight"]
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors)


def test_another_gpu_is_named(
    engine: ipc_engine.IpcWeightTransferEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TransferError, match="learner is on GPU GPU-2, this engine on GPU-1"):
        connect(engine, monkeypatch, gpu="GPU-2")


def test_a_buffer_that_is_too_small_is_refused(
    engine: ipc_engine.IpcWeightTransferEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TransferError, match="buffer must have 9999 bytes"):
        connect(engine, monkeypatch, num_bytes=9999)


def test_an_update_before_the_join_is_refused(
    engine: ipc_engine.IpcWeightTransferEngine,
) -> None:
    with pytest.raises(TransferError, match="before this engine joined"):
        engine.receive_weights(ipc_engine.IpcUpdateInfo(1))


@pytest.mark.parametrize("known", [0, 8])
def test_a_buffer_that_cannot_be_mapped_is_an_error(
    engine: ipc_engine.IpcWeightTransferEngine, known: int
) -> None:
    """What travels is short of a value; or is whole, and torch has no CUDA here."""
    values: dict[str, Any] = {
        "device": 0,
        "handle": b"h",
        "size": 16,
        "offset": 0,
        "ref_counter": b"r",
        "ref_counter_offset": 0,
        "event": b"e",
        "event_sync": True,
    }
    handle = dict(list(values.items())[:known])
    with pytest.raises(TransferError, match="the learner's buffer cannot be mapped"):
        engine.init_transfer_engine(ipc_engine.IpcInitInfo("GPU-1", handle, 16, []))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "gloo"),
        ({"weights": {"backend": "nccl"}}, "nccl"),
        ({"weights": {"backend": "ipc"}}, "async_r1_ipc"),
    ],
)
def test_engines_by_backend(values: dict[str, Any], expected: str) -> None:
    assert weight_backend(build(Config, values)) == expected


def test_our_engines_are_registered() -> None:
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from actors.gloo_plugin import ENGINES, register

    register()
    register()
    for name, (module, engine_name) in ENGINES.items():
        engine_class = WeightTransferEngineFactory._registry[name]()
        assert (engine_class.__module__, engine_class.__name__) == (module, engine_name)
