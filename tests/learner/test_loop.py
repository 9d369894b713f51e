"""The learner as a process of its own, between a buffer of a thread and no actors."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from async_r1 import schema
from async_r1.config import Config
from async_r1.fields import get
from async_r1.messages import read_surprise, write_batch
from async_r1.metrics import read_rows
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.types import Batch
from async_r1.wire import Message
from tests.learner.batches import random_batch
from tests.learner.fake_buffer import FakeBuffer

pytestmark = pytest.mark.slow
TIMEOUT_S = 120


class Session:
    """A run directory and the buffer that serves it."""

    def __init__(self, root: Path, values: dict[str, Any]) -> None:
        self.run_dir = RunDir.create(root / "run")
        self.buffer = FakeBuffer(self._answer)
        self.requested: list[int] = []
        self.config = schema.build(Config, values)
        resolved = Resolved(
            config=self.config,
            run_dir=str(self.run_dir.root),
            buffer_address=self.buffer.address,
            weights_address="tcp://127.0.0.1:0",
            started_at=time.time(),
            threads={"learner_000": 1, "learner_001": 1},
        )
        write_json(self.run_dir.resolved, schema.to_dict(resolved))

    def batch(self, version: int) -> Batch | None:
        """The batch that trains at a version."""
        number = len(self.requested)
        return replace(random_batch(number, policy_version=version), batch_id=100 + number)

    def start(self, index: int = 0, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *[sys.executable, "-m", "tests.learner.loop_worker"],
                *["--config", str(self.run_dir.resolved), "--index", str(index)],
            ],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> str:
        """One rank from start to end; returns its log."""
        process = self.start()
        _, log = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, log
        return log

    def received(self, kind: str) -> list[Message]:
        return [message for message in self.buffer.received if message.kind == kind]

    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.run_dir.metrics_file("learner"))

    def published(self) -> list[dict[str, Any]]:
        path = self.run_dir.root / "published.jsonl"
        return read_rows(path)

    def _answer(self, message: Message) -> Message | None:
        if message.kind == "batch_request":
            version = get(message, "policy_version", int)
            self.requested.append(version)
            batch = self.batch(version)
            return None if batch is None else write_batch(batch)
        kinds = {"hello": "welcome", "step_done": "ok", "finish": "finished"}
        return Message(kinds[message.kind]) if message.kind in kinds else None


@contextmanager
def session(cls: type[Session], root: Path, nano: Path, **values: Any) -> Iterator[Session]:
    model = {"path": str(nano)}
    learner = {"num_updates": 4, "lr": 1e-3, **values.pop("learner", {})}
    made = cls(root, {"model": model, "learner": learner, **values})
    try:
        yield made
    finally:
        made.buffer.close()


def weight_sums(directory: Path) -> dict[str, float]:
    model = AutoModelForCausalLM.from_pretrained(directory)
    return {name: p.double().sum().item() for name, p in model.named_parameters()}


def test_a_run(nano_dir: Path, tmp_path: Path) -> None:
    with session(Session, tmp_path, nano_dir, learner={"checkpoint_every": 2}) as run:
        run.run()
    assert run.requested == [0, 1, 2, 3]
    assert [note["version"] for note in run.published()] == [1, 2, 3, 4]
    assert [note["parent"] for note in run.published()] == [0, 1, 2, 3]
    done = [dict(message.values) for message in run.received("step_done")]
    assert [(d["batch_id"], d["step"], d["policy_version"]) for d in done] == [
        (101, 1, 1), (102, 2, 2), (103, 3, 3), (104, 4, 4)
    ]  # fmt: skip
    rows = run.rows()
    assert [row["policy_version"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["tokens"] == sum(d["trained_tokens"] for d in done)
    for row in rows:
        assert row["time/publish_s"] == 0.25
        assert row["accuracy/mean"] == 0.5
        assert 0 <= row["learner/idle_frac"] <= 1
        assert row["optim/grad_norm"] > 0
        assert None not in row.values()
    kinds = [m.kind for m in run.buffer.received if m.kind != "heartbeat"]
    assert kinds[0] == "hello" and kinds[-2:] == ["finish", "bye"]
    checkpoints = sorted(path.name for path in run.run_dir.checkpoints.iterdir())
    assert checkpoints == ["version_000002", "version_000004"]
    for version in (2, 4):
        assert weight_sums(run.run_dir.checkpoint(version) / "hf") == pytest.approx(
            run.published()[version - 1]["sums"]
        )


def test_several_updates_per_publish_and_steps_by_sample_size(
    nano_dir: Path, tmp_path: Path
) -> None:
    learner = {"updates_per_publish": 2, "num_updates": 5}
    with session(Session, tmp_path, nano_dir, learner=learner, objective={"ess_lr": True}) as run:
        run.run()
    assert run.requested == [0, 0, 1, 1, 2]
    assert [note["version"] for note in run.published()] == [1, 2, 3]
    versions = [message.values["policy_version"] for message in run.received("step_done")]
    assert versions == [0, 1, 1, 2, 3]
    assert [path.name for path in run.run_dir.checkpoints.iterdir()] == ["version_000003"]
    for row in run.rows():
        factor = min(1.0, max(0.1, row["ratio/ess"] ** 0.5))
        assert row["optim/lr"] == pytest.approx(1e-3 * factor)
        assert factor < 1.0


def test_forced_staleness_publishes_older_weights_under_their_own_number(
    nano_dir: Path, tmp_path: Path
) -> None:
    with session(Session, tmp_path / "a", nano_dir, staleness={"force": 2}) as lagged:
        lagged.run()
    with session(Session, tmp_path / "b", nano_dir) as plain:
        plain.run()
    assert [note["version"] for note in lagged.published()] == [1, 2]
    for note, expected in zip(lagged.published(), plain.published(), strict=False):
        assert note["sums"] == expected["sums"]
    versions = [message.values["policy_version"] for message in lagged.received("step_done")]
    assert versions == [1, 2, 3, 4]


def test_grpo_with_a_reference_that_is_refreshed(nano_dir: Path, tmp_path: Path) -> None:
    objective = {"name": "grpo", "aggregation": "sequence", "advantage_norm": "group",
                 "kl": 0.01, "reference_refresh": 2}  # fmt: skip
    learner = {"zero_stage": 2}  # its weights are views of one flat buffer
    with session(Session, tmp_path, nano_dir, objective=objective, learner=learner) as run:
        run.run()
    hf = run.run_dir.checkpoint(4) / "hf"
    assert weight_sums(hf) == pytest.approx(run.published()[-1]["sums"])
    size = (nano_dir / "model.safetensors").stat().st_size
    assert (hf / "model.safetensors").stat().st_size == pytest.approx(size, rel=0.01)
    divergence = [row["reference_kl/mean"] for row in run.rows()]
    assert divergence[0] == pytest.approx(0.0, abs=1e-9)
    assert divergence[1] > 1e-6
    assert divergence[2] == pytest.approx(0.0, abs=1e-9)
    assert divergence[3] > 1e-6
    assert all(row["loss/kl"] == pytest.approx(0.01 * row["reference_kl/mean"], rel=0.5, abs=1e-9)
               for row in run.rows())  # fmt: skip


class PoisonedSession(Session):
    """The third batch holds a NaN."""

    def batch(self, version: int) -> Batch | None:
        batch = super().batch(version)
        if version != 2 or batch is None:
            return batch
        logprobs = batch.behavior_logprobs.copy()
        logprobs[np.flatnonzero(batch.mask)[3]] = np.nan
        return replace(batch, behavior_logprobs=logprobs)


def test_nan_ends_the_run_before_it_is_published(nano_dir: Path, tmp_path: Path) -> None:
    with session(PoisonedSession, tmp_path, nano_dir) as run:
        process = run.start()
        _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    path = run.run_dir.root / "failed_batch" / "step_000003.npz"
    last = log.strip().splitlines()[-1]
    assert "learner: failed: NaN or infinity in loss" in last, log
    assert "step 3, version 2, batch 103" in last and str(path) in last
    assert np.isnan(np.load(path)["behavior_logprobs"]).sum() == 1
    assert [note["version"] for note in run.published()] == [1, 2]
    assert len(run.received("step_done")) == 2
    assert not list(run.run_dir.checkpoints.iterdir())


class SilentSession(Session):
    """No batch ever comes."""

    def batch(self, version: int) -> Batch | None:
        return None


def test_sigterm_while_waiting_is_a_clean_end(nano_dir: Path, tmp_path: Path) -> None:
    with session(SilentSession, tmp_path, nano_dir) as run:
        process = run.start()
        deadline = time.monotonic() + TIMEOUT_S
        while not run.requested and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_surprise_is_written_back_and_weights_are_used(nano_dir: Path, tmp_path: Path) -> None:
    buffer = {"sampler": "prioritized", "priority": {"factors": ["surprise"]}}

    class Weighted(Session):
        def batch(self, version: int) -> Batch | None:
            made = super().batch(version)
            assert made is not None
            probs = np.repeat(np.asarray([1.0, 0.5, 0.25], np.float32), 4)
            return replace(made, inclusion_probs=probs, num_items=9, beta=1.0)

    with session(Weighted, tmp_path, nano_dir, buffer=buffer) as run:
        run.run()
    for row, message in zip(run.rows(), run.received("step_done"), strict=True):
        assert row["replay/weight_max"] == pytest.approx(3 / (9 * 0.25))
        assert row["replay/ess"] < 1.0
        item_ids, surprise = read_surprise(message)
        assert item_ids == [7, 8, 9] and min(surprise) > 0


def test_two_ranks_train_one_batch(nano_dir: Path, tmp_path: Path) -> None:
    with session(Session, tmp_path / "one", nano_dir, learner={"num_updates": 2}) as one:
        one.run()
    learner = {"num_updates": 2, "ranks": 2, "zero_stage": 3, "micro_batch_tokens": 64}
    with session(Session, tmp_path / "two", nano_dir, learner=learner) as two:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes = [two.start(rank, RANK=str(rank), **env) for rank in range(2)]
        logs = [process.communicate(timeout=TIMEOUT_S)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], logs
    for row, expected in zip(two.rows(), one.rows(), strict=True):
        for name in ("loss/total", "optim/grad_norm", "ratio/ess", "mismatch_kl/mean", "tokens"):
            assert row[name] == pytest.approx(expected[name], rel=1e-3), name
    for note, expected in zip(two.published(), one.published(), strict=True):
        assert note["sums"] == pytest.approx(expected["sums"], abs=0.02)
    assert (two.run_dir.checkpoint(2) / "COMPLETE").exists()
