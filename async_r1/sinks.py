"""Optional trackers, fed from the metric files: TensorBoard and Weights & Biases.

Only the launcher writes to them, so that a tracker has one writer and one step axis: the
optimizer step. A tracker that fails is dropped with one warning; training never waits for it.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.rows import Row, position, version_of
from async_r1.run_dir import RunDir
from async_r1.schema import to_dict
from async_r1.view import RunView

CLOSE_TIMEOUT_S = 5.0  # a tracker that still uploads is left behind
_AXES = ("step", "wall_s")

log = logging.getLogger(__name__)

T = TypeVar("T")


class Tracker(Protocol):
    """Where scalars go."""

    def write(self, step: int, wall_time: float, scalars: Mapping[str, float]) -> None:
        """Record scalars by tag; `wall_time` in seconds since the epoch."""

    def close(self) -> None:
        """Write out what is pending."""


class TensorBoardTracker:
    """Event files in RUN/tensorboard, written without torch."""

    def __init__(self, config: Config, run_dir: RunDir) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(run_dir.root / "tensorboard"))

    def write(self, step: int, wall_time: float, scalars: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
        summary = self._summary(value=values)
        self._writer.add_event(self._event(step=step, wall_time=wall_time, summary=summary))

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """One Weights & Biases run, named like the run directory and continued if it exists."""

    def __init__(self, config: Config, run_dir: RunDir) -> None:
        import wandb

        name = run_dir.root.resolve().name
        self._run = wandb.init(
            project=config.logging.project,
            name=name,
            id=name,
            resume="allow",
            dir=str(run_dir.root),
            config=to_dict(config),
        )
        # Rows of several roles interleave, so wandb's own counter is no step.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, wall_time: float, scalars: Mapping[str, float]) -> None:
        self._run.log({"step": step, "wall_time": wall_time, **scalars})

    def close(self) -> None:
        self._run.finish()


class Sink:
    """Follows the rows of a run into one tracker, until that fails."""

    def __init__(self, name: str, view: RunView, make: Callable[[], Tracker]) -> None:
        self._name = name
        self._view = view
        self._shown: dict[str, int] = {}  # rows by stream
        self._tracker: Tracker | None = None
        self._tracker = self._guarded(make)

    def poll(self) -> None:
        """Send the rows that came since the last call."""
        if self._tracker is None:
            return
        self._view.refresh()
        self._guarded(self._send)

    def close(self) -> None:
        """Send what is left and close the tracker, for CLOSE_TIMEOUT_S at most."""
        self.poll()
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        thread = threading.Thread(target=self._guarded, args=(tracker.close,), daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            log.warning("%s did not finish within %g s; left behind", self._name, CLOSE_TIMEOUT_S)

    def _send(self) -> None:
        started_at = float(self._view.resolved.get("started_at") or 0.0)
        for stream, rows in self._view.streams.items():
            for row in rows[self._shown.get(stream, 0) :]:
                assert self._tracker is not None
                wall_time = started_at + (row.get("wall_s") or 0.0)
                self._tracker.write(self._step(stream, row), wall_time, scalars(stream, row))
            self._shown[stream] = len(rows)

    def _step(self, stream: str, row: Row) -> int:
        if stream == "learner":
            return position(row)
        return self._view.step_of_version(version_of(row))

    def _guarded(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:
            self._tracker = None
            log.warning("%s failed and gets no more rows: %s", self._name, error)
            return None


# name: (module to import, how to make the tracker); the name is also that of the extra.
_TRACKERS: dict[str, tuple[str, Callable[[Config, RunDir], Tracker]]] = {
    "tensorboard": ("tensorboard", TensorBoardTracker),
    "wandb": ("wandb", WandbTracker),
}


def check_sinks(config: Config) -> None:
    """Check before anything starts that the trackers asked for can be imported.

    Raises:
        ConfigError: one is not installed; names the extra that brings it.
    """
    for name in _wanted(config):
        module, _ = _TRACKERS[name]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(
                f"logging.{name}=true needs a package that is not installed ({error}): "
                f"pip install 'async_r1[{name}]', or set logging.{name}=false"
            ) from None


def make_sinks(config: Config, run_dir: RunDir) -> list[Sink]:
    """The trackers that the configuration asks for; poll them, and close them at the end.

    Raises:
        ConfigError: as `check_sinks`.
    """
    check_sinks(config)
    return [_make_sink(name, config, run_dir) for name in _wanted(config)]


def scalars(stream: str, row: Row) -> dict[str, float]:
    """The numbers of a row by tag.

    Those of the learner keep their names. Others begin with the stream, once, since buffer and
    learner share names such as `reward/mean`, and all actors share theirs.
    """
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in _AXES
    }
    if stream == "learner":
        return numbers
    kind = stream.split("_")[0]  # of actor_000: actor
    return {f"{stream}/{name.removeprefix(f'{kind}/')}": value for name, value in numbers.items()}


def _make_sink(name: str, config: Config, run_dir: RunDir) -> Sink:
    _, tracker = _TRACKERS[name]
    return Sink(name, RunView(run_dir), lambda: tracker(config, run_dir))


def _wanted(config: Config) -> list[str]:
    return [name for name in _TRACKERS if getattr(config.logging, name)]
