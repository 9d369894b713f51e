"""Publication to real receiver processes, some of which are killed or refuse."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from async_r1.config import Config
from async_r1.errors import DeadlineError, TransferError
from async_r1.ports import free_port
from async_r1.schema import build
from learner.publisher import WeightPublisher

ROOT = Path(__file__).parents[2]

_RECEIVER = """
import sys
from datetime import timedelta
import torch
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore
from async_r1.channels import Dealer
from async_r1.weight_buckets import ParameterSpec, plan_buckets
from async_r1.wire import Message

address, name, mode = sys.argv[1:]
dealer = Dealer(address, name)
dealer.send(Message("weights_join", {"index": 0, "policy_version": 0, "world_size": 1}))
print("joined", flush=True)
while True:
    message = dealer.receive(60)
    if message is None:
        sys.exit(3)
    if message.kind == "weights_group":
        info = message.values["init_info"]
        timeout = timedelta(seconds=info["timeout_s"])
        store = TCPStore(info["host"], info["port"], is_master=False, timeout=timeout)
        group = ProcessGroupGloo(store, info["rank_offset"], info["world_size"], timeout)
        specs = [ParameterSpec(n, d, tuple(s)) for n, d, s in info["parameters"]]
        dealer.send(Message("weights_ready", {"epoch": message.values["epoch"]}))
        print("ready", flush=True)
    elif message.kind == "weights_update":
        if mode == "refuse":
            dealer.send(Message("weights_failed", {"text": "disk on fire"}))
            continue
        if mode == "silent":
            continue
        total = 0.0
        for bucket in plan_buckets(specs, info["bucket_bytes"]):
            flat = torch.empty(bucket.num_bytes, dtype=torch.uint8)
            group.broadcast([flat], BroadcastOptions()).wait()
            for spec, offset in zip(bucket.specs, bucket.offsets):
                part = flat[offset : offset + spec.num_bytes]
                total += part.view(getattr(torch, spec.dtype)).double().sum().item()
        version = message.values["policy_version"]
        print(f"loaded {version} {total:.6f}", flush=True)
        dealer.send(Message("weights_done", {"policy_version": version}))
"""


@pytest.fixture
def publisher() -> Iterator[WeightPublisher]:
    yield from _publisher(timeout_s=4.0)


def _publisher(timeout_s: float) -> Iterator[WeightPublisher]:
    config = build(Config, {"weights": {"backend": "gloo", "timeout_s": timeout_s}})
    role = SimpleNamespace(
        config=config,
        resolved=SimpleNamespace(weights_address=f"tcp://127.0.0.1:{free_port('127.0.0.1')}"),
        log=SimpleNamespace(info=lambda *_: None, warning=lambda *_: None),
    )
    publisher = WeightPublisher(role, 2, torch.device("cpu"))  # type: ignore[arg-type]
    publisher.address = role.resolved.weights_address  # type: ignore[attr-defined]
    yield publisher
    publisher.close()


@pytest.fixture
def start(publisher: WeightPublisher) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def launch(name: str, mode: str = "normal") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _RECEIVER, publisher.address, name, mode],  # type: ignore[attr-defined]
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return process

    yield launch
    for process in processes:
        process.kill()
        process.wait()


def _weights(seed: int) -> list[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        ("a.weight", torch.randn(7, 5, generator=generator)),
        ("b.weight", torch.randn(3, generator=generator).to(torch.bfloat16)),
        ("c.weight", torch.randn(1000, 11, generator=generator)),
    ]


def _total(weights: list[tuple[str, torch.Tensor]]) -> str:
    return f"{sum(tensor.double().sum().item() for _, tensor in weights):.6f}"


def _read(process: subprocess.Popen[str], prefix: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(prefix):
            return line.strip()
    raise AssertionError(f"the receiver ended before {prefix!r}")


def test_every_actor_receives_every_version(publisher: WeightPublisher, start) -> None:  # type: ignore[no-untyped-def]
    actors = [start("actor_000"), start("actor_001")]
    publisher.wait_for_actors(30)
    for version in (1, 2):
        weights = _weights(version)
        row = publisher.publish(version, version - 1, iter(weights))
        assert row["publish/num_actors"] == 2
        for actor in actors:
            assert _read(actor, "loaded") == f"loaded {version} {_total(weights)}"


def test_the_group_is_rebuilt_when_an_actor_joins(publisher: WeightPublisher, start) -> None:  # type: ignore[no-untyped-def]
    first = start("actor_000")
    while not publisher._actors:
        publisher.poll(0.2)
    publisher.publish(1, 0, iter(_weights(1)))
    second = start("actor_001")
    publisher.wait_for_actors(30)
    weights = _weights(2)
    publisher.publish(2, 1, iter(weights))
    for actor in (first, second):
        assert _read(actor, "loaded 2") == f"loaded 2 {_total(weights)}"


def test_a_killed_actor_is_an_error_with_its_name_in_seconds(
    publisher: WeightPublisher,
    start,  # type: ignore[no-untyped-def]
) -> None:
    start("actor_000")
    victim = start("actor_001", "silent")
    publisher.wait_for_actors(30)
    with pytest.raises(TransferError):
        publisher.publish(1, 0, iter(_weights(1)))
    publisher._actors.clear()
    replacement = start("actor_002")
    while len(publisher._actors) < 1:
        publisher.poll(0.2)
    publisher.publish(2, 1, iter(_weights(2)))
    os.kill(replacement.pid, signal.SIGKILL)
    replacement.wait()
    started = time.monotonic()
    with pytest.raises(TransferError, match="actor_002"):
        publisher.publish(3, 2, iter(_weights(3)))
    assert time.monotonic() - started < 10
    assert victim.poll() is None


def test_an_actor_that_cannot_load_is_named_with_its_reason(
    publisher: WeightPublisher,
    start,  # type: ignore[no-untyped-def]
) -> None:
    start("actor_000", "refuse")
    while not publisher._actors:
        publisher.poll(0.2)
    with pytest.raises(TransferError, match=r"actor_000: disk on fire"):
        publisher.publish(1, 0, iter(_weights(1)))


def test_missing_actors_are_a_deadline_error_that_names_those_present(
    publisher: WeightPublisher,
    start,  # type: ignore[no-untyped-def]
) -> None:
    start("actor_000")
    while not publisher._actors:
        publisher.poll(0.2)
    with pytest.raises(DeadlineError, match="there are 1: actor_000"):
        publisher.wait_for_actors(0.5)
