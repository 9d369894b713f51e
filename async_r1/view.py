"""What the files of a run directory say; panel, summary and report all read it here.

Nothing here talks to a role: a view works on a live run, a finished one and a copy of either.
A value that is absent, null or not recorded yet is None.
"""

import json
import math
import os
import statistics
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import Any

from async_r1.averages import mean_of
from async_r1.errors import RunDirError
from async_r1.metrics import RowTail
from async_r1.role_view import RoleView, RoleWatch, clock
from async_r1.rows import Row, position, version_of
from async_r1.run_dir import RunDir, read_json

SMOOTHING_STEPS = 10
RECENT_STEPS = 40  # from which the time left is estimated
ACTOR_GONE_VERSIONS = 8  # an actor silent for more versions than this has left
ENDED = ("finished", "failed", "interrupted")


class RunView:
    """The rows of a run, and what follows from them.

    Attributes:
        streams: rows by name of the metric file, as written, restarts included.
        steps: learner rows that are part of the policy's history: after a restore from a
            checkpoint the rows of the steps it undid are left out.
        evals: eval rows of versions in that history.
        resolved: `config/resolved.json` as plain values, so that runs of other versions of the
            schema stay readable.
        damaged_lines: complete lines that are no row, as a process killed while writing leaves.
    """

    def __init__(self, run_dir: RunDir | str | os.PathLike[str]) -> None:
        self.run_dir = run_dir if isinstance(run_dir, RunDir) else RunDir(run_dir)
        self.streams: dict[str, list[Row]] = {}
        self.steps: list[Row] = []
        self.evals: list[Row] = []
        self.resolved: dict[str, Any] = {}
        self.damaged_lines = 0
        self._tails: dict[str, RowTail] = {}
        self._role_watch = RoleWatch(self.run_dir)
        self.refresh()

    def refresh(self) -> bool:
        """Read what was written since the last call; says whether any row came."""
        if not self.resolved:
            self.resolved = _read_object(self.run_dir.resolved)
        came = False
        for path in sorted(self.run_dir.metrics.glob("*.jsonl")):
            rows = self._new_rows(self._tails.setdefault(path.stem, RowTail(path)))
            self.streams.setdefault(path.stem, []).extend(rows)
            for row in rows if path.stem == "learner" else ():
                _append(self.steps, row)
            came = came or bool(rows)
        if came:
            self.evals = self._of_history(self.streams.get("eval", []))
        return came

    def option(self, name: str, default: Any = None) -> Any:
        """A configuration value by its dotted name, such as `learner.num_updates`."""
        value: Any = self.resolved.get("config", {})
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.run_dir.root.resolve().name

    @property
    def status(self) -> dict[str, Any]:
        """`status.json`, as the launcher last wrote it; empty while there is none."""
        return _read_object(self.run_dir.status)

    @property
    def actors(self) -> dict[str, list[Row]]:
        """Rows by actor; actors without any are absent."""
        return {n: rows for n, rows in self.streams.items() if n.startswith("actor_") and rows}

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return position(self.steps[-1]) if self.steps else 0

    @property
    def version(self) -> int:
        """The newest policy version in the rows."""
        lasts = (rows[-1] for rows in self.streams.values() if rows)
        return max(map(version_of, lasts), default=0)

    def step_of_version(self, version: int) -> int:
        """Optimizer steps that were done when a version was published."""
        done = bisect_left(self.steps, version, key=version_of)
        row = self.steps[done - 1] if done else {"step": 0, "policy_version": -1}
        if done < len(self.steps):
            return position(row)
        # A row of a version may be read before that of the step which published it.
        unread = max(0, version - 1 - version_of(row))
        return position(row) + unread * int(self.option("learner.updates_per_publish", 1))

    def latest(self, name: str) -> float | None:
        """A metric of the last optimizer step."""
        value: float | None = self.steps[-1].get(name) if self.steps else None
        return value

    def latest_of(self, stream: str, name: str) -> float | None:
        """The last known value of a metric in a stream."""
        rows = reversed(self.streams.get(stream, []))
        return next((row[name] for row in rows if row.get(name) is not None), None)

    def smoothed(self, name: str, window: int = SMOOTHING_STEPS) -> float | None:
        """Mean of a metric over the last `window` steps."""
        return mean_of(row.get(name) for row in self.steps[-window:])

    def actor_sum(self, name: str) -> float | None:
        """Sum over the actors of each one's last value."""
        values = self._actor_values(name)
        return sum(values) if values else None

    def actor_mean(self, name: str) -> float | None:
        """Mean over the actors of each one's last value."""
        return mean_of(self._actor_values(name))

    @property
    def recorded_s(self) -> float:
        """Seconds from the launch to the newest row."""
        lasts = (rows[-1] for rows in self.streams.values() if rows)
        return max((float(row.get("wall_s") or 0.0) for row in lasts), default=0.0)

    def elapsed_s(self, now: float | None = None) -> float:
        """Seconds since the launch; those to the newest row once the run has ended."""
        started_at = self.resolved.get("started_at")
        if started_at is None or self.status.get("state") in ENDED:
            return self.recorded_s
        return max(self.recorded_s, clock(now) - float(started_at))

    def step_seconds(self) -> float | None:
        """Median seconds per optimizer step of recent versions.

        Whole versions, since the steps of one may come in a burst; their median, since an eval
        or a restart stretches a few of them.
        """
        firsts = [
            after
            for before, after in pairwise(self.steps[-RECENT_STEPS:])
            if version_of(before) != version_of(after)
        ]
        rates = [
            (b.get("wall_s", 0.0) - a.get("wall_s", 0.0)) / (position(b) - position(a))
            for a, b in pairwise(firsts)
        ]
        return float(statistics.median(rates)) if rates else self.latest("time/step_s")

    def time_left_s(self, now: float | None = None) -> float | None:
        """Seconds to the last optimizer step; None while there is nothing to go by."""
        num_updates: int | None = self.option("learner.num_updates")
        per_step = self.step_seconds()
        if num_updates is None or per_step is None:
            return None
        into_step = max(0.0, self.elapsed_s(now) - (self.latest("wall_s") or 0.0))
        return max(0.0, (num_updates - self.step) * per_step - min(into_step, per_step))

    def roles(self, now: float | None = None) -> list[RoleView]:
        """What each role does, buffer first; `not started` if it has not said anything yet."""
        expected = ["buffer"] if self.resolved else []
        expected += [f"learner_{i:03d}" for i in range(self.option("learner.ranks", 0))]
        expected += [f"actor_{i:03d}" for i in range(self.option("actors.count", 0))]
        now = clock(now)
        return self._role_watch.read(expected, self.resolved.get("started_at") or now, now)

    def _actor_values(self, name: str) -> list[float]:
        lasts = [rows[-1] for rows in self.actors.values()]
        oldest = max(map(version_of, lasts), default=0) - ACTOR_GONE_VERSIONS
        present = [row for row in lasts if version_of(row) >= oldest]
        return [row[name] for row in present if row.get(name) is not None]

    def _of_history(self, rows: list[Row]) -> list[Row]:
        trained_at = {version_of(row) for row in self.steps}
        known = {0, *trained_at, *(version + 1 for version in trained_at)}
        return [row for row in rows if version_of(row) in known or version_of(row) > max(known)]

    def _new_rows(self, tail: RowTail) -> list[Row]:
        rows: list[Row] = []
        while True:
            try:
                for row in tail.read():
                    if isinstance(row, dict):
                        rows.append({name: _known(value) for name, value in row.items()})
                    else:
                        self.damaged_lines += 1
                return rows
            except json.JSONDecodeError:  # the tail goes on after the damaged line
                self.damaged_lines += 1


def _append(history: list[Row], row: Row) -> None:
    while history and position(history[-1]) >= position(row):
        history.pop()
    history.append(row)


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except RunDirError:
        return {}
    return value if isinstance(value, dict) else {}
