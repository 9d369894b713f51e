"""Trackers: what they get, and that they never hurt a run."""

import dataclasses
import logging
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from async_r1 import sinks
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.metrics import read_rows
from async_r1.run_dir import RunDir
from async_r1.sinks import Sink, check_sinks, make_sinks, scalars
from async_r1.view import RunView
from tests.async_r1.synthetic_run import STARTED_AT, make_config, make_run, write_rows

Call = tuple[int, float, dict[str, float]]


class Recorder:
    """A tracker that keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.closed = 0

    def write(self, step: int, wall_time: float, scalars: dict[str, float]) -> None:
        self.calls.append((step, wall_time, dict(scalars)))

    def close(self) -> None:
        self.closed += 1


class Broken(Recorder):
    def write(self, step: int, wall_time: float, scalars: dict[str, float]) -> None:
        super().write(step, wall_time, scalars)
        raise ConnectionError("no route to tracker")


def with_logging(run: RunDir, **options: bool) -> Config:
    config = make_config(run.root)
    return dataclasses.replace(config, logging=dataclasses.replace(config.logging, **options))


def stub(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


def test_every_row_is_sent_once_under_its_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=12, total_steps=20)
    tracker = Recorder()
    sink = Sink("recorder", RunView(run), lambda: tracker)
    for _ in range(3):
        sink.poll()
    rows = read_rows(run.metrics_file("learner"))
    extra = {"step": 13, "policy_version": 12, "wall_s": 99.0, "reward/mean": 0.5, "loss/kl": None}
    write_rows(run, "learner", [extra])
    sink.poll()
    sink.close()
    sink.close()
    assert tracker.closed == 1
    rewards = [(step, s["reward/mean"]) for step, _, s in tracker.calls if "reward/mean" in s]
    assert rewards == [(row["step"], row["reward/mean"]) for row in rows] + [(13, 0.5)]
    assert tracker.calls[-1] == (13, STARTED_AT + 99.0, {"policy_version": 12, "reward/mean": 0.5})
    # Rows of other roles stand at the step that published their version.
    for tag in ("actor_000/idle_frac", "actor_001/perf/tokens_per_s", "eval/accuracy"):
        steps = [(step, s) for step, _, s in tracker.calls if tag in s]
        prefix = tag.split("/")[0]
        assert steps and all(step == s[f"{prefix}/policy_version"] for step, s in steps)


def test_tags() -> None:
    row = {"step": 3, "wall_s": 9.5, "policy_version": 2, "reward/mean": 0.5, "note": "text"}
    assert scalars("learner", row) == {"policy_version": 2, "reward/mean": 0.5}
    assert scalars("buffer", {**row, "buffer/size": 4}) == {
        "buffer/policy_version": 2,
        "buffer/reward/mean": 0.5,
        "buffer/size": 4,
    }
    assert scalars("actor_001", {"actor/idle_frac": 0.1, "perf/tokens_per_s": 2.0}) == {
        "actor_001/idle_frac": 0.1,
        "actor_001/perf/tokens_per_s": 2.0,
    }
    assert scalars("eval", {"eval/accuracy": 0.5}) == {"eval/accuracy": 0.5}


def test_a_failing_sink_is_dropped_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", steps=5)
    tracker = Broken()
    sink = Sink("broken", RunView(run), lambda: tracker)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            sink.poll()
        sink.close()
    assert len(tracker.calls) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "broken failed and gets no more rows: no route to tracker"
    ]


def test_a_sink_that_cannot_start_is_dropped_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> Recorder:
        raise PermissionError("not logged in")

    with caplog.at_level(logging.WARNING):
        sink = Sink("closed", RunView(make_run(tmp_path / "run", steps=2)), make)
        sink.poll()
        sink.close()
    assert len(caplog.records) == 1 and "not logged in" in caplog.text


def test_a_sink_that_hangs_at_its_end_is_left_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    tracker = SimpleNamespace(write=lambda *_: None, close=lambda: released.wait(60))
    monkeypatch.setattr(sinks, "CLOSE_TIMEOUT_S", 0.05)
    sink = Sink("slow", RunView(make_run(tmp_path / "run", steps=2)), lambda: tracker)
    with caplog.at_level(logging.WARNING):
        sink.close()
    released.set()
    assert "slow did not finish within 0.05 s" in caplog.text


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_a_config_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = make_run(tmp_path / "run", steps=1)
    monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    check_sinks(with_logging(run))
    assert make_sinks(with_logging(run), run) == []
    for check in (check_sinks, lambda config: make_sinks(config, run)):
        with pytest.raises(ConfigError) as caught:
            check(with_logging(run, **{name: True}))
        message = str(caught.value)
        assert f"async_r1[{name}]" in message and f"logging.{name}" in message
        assert "\n" not in message


def test_wandb_gets_one_run_with_its_own_step_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, Any]] = []
    wandb_run = SimpleNamespace(
        define_metric=lambda *a, **k: events.append(("define", (a, k))),
        log=lambda values: events.append(("log", values)),
        finish=lambda: events.append(("finish", None)),
    )

    def init(**options: Any) -> SimpleNamespace:
        events.append(("init", options))
        return wandb_run

    stub(monkeypatch, "wandb", init=init)
    run = make_run(tmp_path / "my_run", steps=2)
    (sink,) = make_sinks(with_logging(run, wandb=True), run)
    sink.close()
    (_, options), *rest = events
    assert options["name"] == options["id"] == "my_run" and options["resume"] == "allow"
    assert options["project"] == "async_r1" and options["config"]["learner"]["num_updates"] == 100
    assert [event for event in rest if event[0] == "define"] == [
        ("define", (("step",), {})),
        ("define", (("*",), {"step_metric": "step"})),
    ]
    logged = [values for kind, values in events if kind == "log"]
    assert {1, 2} <= {values["step"] for values in logged if "reward/mean" in values}
    assert events[-1] == ("finish", None)


def test_tensorboard_gets_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    closed: list[bool] = []

    class Writer:
        def __init__(self, logdir: str) -> None:
            self.logdir = logdir
            events.append(logdir)

        def add_event(self, event: Any) -> None:
            events.append(event)

        def close(self) -> None:
            closed.append(True)

    class Summary(SimpleNamespace):
        Value = SimpleNamespace

    for name in ("tensorboard", "tensorboard.compat", "tensorboard.compat.proto"):
        stub(monkeypatch, name, __path__=[])
    for name in ("tensorboard.summary", "tensorboard.summary.writer"):
        stub(monkeypatch, name, __path__=[])
    stub(monkeypatch, "tensorboard.compat.proto.event_pb2", Event=SimpleNamespace)
    stub(monkeypatch, "tensorboard.compat.proto.summary_pb2", Summary=Summary)
    stub(monkeypatch, "tensorboard.summary.writer.event_file_writer", EventFileWriter=Writer)
    run = make_run(tmp_path / "run", steps=2)
    (sink,) = make_sinks(with_logging(run, tensorboard=True), run)
    sink.poll()
    sink.close()
    assert events[0] == str(run.root / "tensorboard") and closed == [True]
    rows = read_rows(run.metrics_file("learner"))
    found = [
        (event.step, event.wall_time, value.simple_value)
        for event in events[1:]
        for value in event.summary.value
        if value.tag == "reward/mean"
    ]
    assert found == [(r["step"], STARTED_AT + r["wall_s"], r["reward/mean"]) for r in rows]
