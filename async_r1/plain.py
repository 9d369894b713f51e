"""Progress as plain lines: one per optimizer step, one per eval, one when a role's wait changes."""

from collections.abc import Callable
from typing import TextIO

from async_r1.formatting import count, duration, number, percent, versions
from async_r1.rows import Row, level_accuracies
from async_r1.view import RunView

HEADER_EVERY = 20  # rows
REMIND_EVERY_S = 30.0

# Title and width of each column; two spaces between columns.
COLUMNS = (
    ("step", 11),
    ("version", 7),
    ("reward", 7),
    ("accuracy", 8),
    ("length", 6),
    ("sampled/s", 9),
    ("trained/s", 9),
    ("stale", 5),
    ("max", 3),
    ("actor idle", 10),
    ("learner idle", 12),
    ("left", 12),
)


class PlainLines:
    """Writes what is new in a view; every line once."""

    def __init__(self, view: RunView, stream: TextIO, clock: Callable[[], float]) -> None:
        self._view = view
        self._stream = stream
        self._clock = clock
        self._shown = {"learner": 0, "eval": 0}  # rows by stream
        self._said: dict[str, str] = {}
        self._last_line_at = clock()

    def update(self) -> None:
        """Write the rows that came; while there are none, what the roles wait for."""
        now = self._clock()
        if not self._view.streams.get("learner"):
            self._say_changes(now)
        for stream, row in self._new_rows():
            if stream == "eval":
                self._write(eval_line(row))
            else:
                if self._shown["learner"] % HEADER_EVERY == 0:
                    self._write("  ".join(title.rjust(width) for title, width in COLUMNS))
                self._write(step_line(self._view, row, now))
            self._shown[stream] += 1
        usual_s = self._view.step_seconds() or 0.0
        if now - self._last_line_at >= max(REMIND_EVERY_S, 3 * usual_s):
            self._remind(now)

    def close(self) -> None:
        """Nothing is left open."""

    def _say_changes(self, now: float) -> None:
        for role in self._view.roles(now):
            if self._said.get(role.name) != role.text:
                self._said[role.name] = role.text
                self._say(now, f"{role.name}: {role.text}")

    def _new_rows(self) -> list[tuple[str, Row]]:
        new = [
            (stream, row)
            for stream, shown in self._shown.items()
            for row in self._view.streams.get(stream, [])[shown:]
        ]
        return sorted(new, key=lambda item: item[1].get("wall_s") or 0.0)

    def _remind(self, now: float) -> None:
        for role in self._view.roles(now):
            if role.state != "done":
                self._say(now, f"{role.name}: still {role.text}, for {duration(role.age_s)}")
        self._last_line_at = now

    def _say(self, now: float, text: str) -> None:
        self._write(f"[{duration(self._view.elapsed_s(now))}] {text}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
        self._last_line_at = self._clock()


def step_line(view: RunView, row: Row, now: float) -> str:
    """The line of a learner row; what the actors do is taken from their last rows."""
    num_updates = view.option("learner.num_updates")
    step = f"{row.get('step')}/{num_updates}" if num_updates else str(row.get("step"))
    cells = (
        step,
        count(row.get("policy_version")),
        number(row.get("reward/mean")),
        number(row.get("accuracy/mean")),
        number(row.get("completion_length/mean"), 1),
        count(view.actor_sum("perf/tokens_per_s")),
        count(row.get("perf/tokens_per_s")),
        number(row.get("staleness/mean"), 2),
        count(row.get("staleness/max")),
        percent(view.actor_mean("actor/idle_frac")),
        percent(row.get("learner/idle_frac")),
        duration(view.time_left_s(now)),
    )
    return "  ".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def eval_line(row: Row) -> str:
    """`eval v40: accuracy 0.512 ± 0.043  (level 1: 0.98, level 2: 0.71)`."""
    line = f"eval {versions(row)}: accuracy {number(row.get('eval/accuracy'))}"
    if row.get("eval/accuracy/ci95") is not None:
        line += f" ± {number(row['eval/accuracy/ci95'])}"
    levels = [f"level {level}: {number(value, 2)}" for level, value in level_accuracies(row)]
    return line + (f"  ({', '.join(levels)})" if levels else "")
