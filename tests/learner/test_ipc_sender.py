"""The buffer that actors read from a shared GPU, without one: mapped by name in this process."""

import inspect
from typing import Any

import pytest
import torch

from async_r1 import wire
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.schema import build
from async_r1.wire import Message
from learner import ipc_sender
from learner.ipc_sender import IpcSender
from learner.weight_senders import Member, make_sender

GPU = "GPU-1"
HANDLE = {"device": 0, "handle": b"\x00\xff", "size": 4096, "offset": 0}


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> IpcSender:
    monkeypatch.setattr(ipc_sender, "gpu_identity", lambda device: GPU)
    monkeypatch.setattr(ipc_sender, "export", lambda flat: dict(HANDLE))
    return IpcSender(torch.device("cpu"))


def tensors() -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        ("a", torch.randn(3, 5, generator=generator)),
        ("b", torch.randn(7, generator=generator).bfloat16()),
        ("c", torch.randn(4, 6, generator=generator).T),  # not contiguous
    ]


def test_a_version_is_laid_out_as_the_members_are_told(sender: IpcSender) -> None:
    members = [Member("actor_000", 1), Member("actor_001", 1)]
    infos = sender.open(members, tensors())
    assert len(infos) == 2 and infos[0] == infos[1]
    info = infos[0]
    sender.stage(tensors())
    flat = sender._flat
    assert flat is not None and len(flat) == info["num_bytes"]
    end = 0
    for (name, tensor), (told, dtype, shape) in zip(tensors(), info["parameters"], strict=True):
        assert (told, dtype, shape) == (name, str(tensor.dtype)[6:], list(tensor.shape))
        part = flat[end : end + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        assert torch.equal(part, tensor)
        end += -(-tensor.nbytes // 16) * 16
    other = [(name, tensor + 1) for name, tensor in tensors()]
    sender.stage(other)
    assert torch.equal(flat[:60].view(torch.float32).view(3, 5), other[0][1])


def test_what_members_are_told_is_plain(sender: IpcSender) -> None:
    (info,) = sender.open([Member("actor_000", 1)], tensors())
    message = Message("weights_group", {"epoch": 1, "init_info": info})
    assert wire.decode([bytes(frame) for frame in wire.encode(message)]) == message


def test_the_names_of_a_handle_are_those_that_torch_uses() -> None:
    from torch.multiprocessing import reductions

    taken = list(inspect.signature(reductions.rebuild_cuda_tensor).parameters)
    assert taken[6:10] == [
        *("storage_device", "storage_handle", "storage_size_bytes", "storage_offset_bytes")
    ]
    assert taken[11:] == [
        *("ref_counter_handle", "ref_counter_offset", "event_handle", "event_sync_required")
    ]

    class Storage:
        def _share_cuda_(self) -> tuple[Any, ...]:
            return tuple(taken[6:10] + taken[11:])

    class Flat:
        def untyped_storage(self) -> Storage:
            return Storage()

    flat: Any = Flat()
    assert ipc_sender.export(flat) == {
        "device": "storage_device",
        "handle": "storage_handle",
        "size": "storage_size_bytes",
        "offset": "storage_offset_bytes",
        "ref_counter": "ref_counter_handle",
        "ref_counter_offset": "ref_counter_offset",
        "event": "event_handle",
        "event_sync": "event_sync_required",
    }


@pytest.mark.parametrize(
    ("device", "values", "expected"),
    [
        ("cpu", {}, "GlooSender"),
        ("cuda", {}, "NcclSender"),
        ("cuda", {"run": {"colocate": True}}, "IpcSender"),
        ("cuda", {"weights": {"backend": "gloo"}}, "GlooSender"),
        ("cuda", {"weights": {"backend": "ipc"}}, "IpcSender"),
    ],
)
def test_senders_by_backend_and_device(device: str, values: dict[str, Any], expected: str) -> None:
    config = build(Config, values)
    assert type(make_sender(config, "127.0.0.1", torch.device(device))).__name__ == expected


def test_backends_of_gpus_are_refused_on_a_cpu() -> None:
    for backend in ("nccl", "ipc"):
        config = build(Config, {"weights": {"backend": backend}})
        with pytest.raises(ConfigError, match=f"weights.backend={backend} needs a GPU"):
            make_sender(config, "127.0.0.1", torch.device("cpu"))
