"""A chart of metric rows that can be drawn over optimizer steps and over time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from async_r1.averages import mean_of
from async_r1.rows import Row, position, version_of
from async_r1.svg import Axes, LineStyle, Series, line_chart
from async_r1.view import ACTOR_GONE_VERSIONS, SMOOTHING_STEPS, RunView

AxisKind = Literal["step", "time", "tokens"]
AXIS_KINDS: tuple[AxisKind, ...] = ("step", "time", "tokens")


class Extent(NamedTuple):
    """The length of the axes, shared by all charts of a page so that they line up."""

    steps: int
    wall_s: float
    sampled: Sequence[tuple[float, float]] = ()  # (step, tokens sampled until then), ascending

    @property
    def tokens(self) -> float:
        """Sampled in all; 0 if it is not recorded."""
        return self.sampled[-1][1] if self.sampled else 0.0


def sampled_by_step(view: RunView) -> list[tuple[float, float]]:
    """(step, tokens that the buffer had received by then), once a version, from (0, 0) on; empty
    if the rows do not tell."""
    found: list[tuple[float, float]] = [(0.0, 0.0)]
    for row in view.streams.get("buffer", []):
        tokens, step = row.get("tokens/received"), position(row)
        if tokens is not None and step > found[-1][0] and tokens >= found[-1][1]:
            found.append((float(step), float(tokens)))
    return found if len(found) > 1 else []


class Point(NamedTuple):
    """A value with its place on both axes."""

    step: int
    wall_s: float
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart."""

    label: str
    points: Sequence[Point]
    color: str
    style: LineStyle = "line"
    margin: Sequence[float | None] = ()

    @property
    def last(self) -> float | None:
        """The last known value, for the legend."""
        return next((p.value for p in reversed(self.points) if p.value is not None), None)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart on either axis; `name` is unique, [a-z-]."""

    name: str
    title: str
    note: str
    y_label: str
    lines: Sequence[Line]
    y_low: float | None = None
    y_high: float | None = None

    def svg(self, axis: AxisKind, extent: Extent) -> str:
        """Draw the chart over optimizer steps, the time since the launch, or sampled tokens."""
        x_label, x_high, place = _x_axis(axis, extent)
        shown = self.lines if place is not None else ()
        series = [
            Series(
                label=line.label,
                x=place(line.points) if place else (),
                y=[p.value for p in line.points],
                color=line.color,
                style=line.style,
                margin=line.margin,
            )
            for line in shown
        ]
        axes = Axes(
            x_label=x_label,
            x_high=x_high,
            y_label=self.y_label,
            y_low=self.y_low,
            y_high=self.y_high,
            integer_x=axis == "step",
        )
        return line_chart(f"{self.name}-{axis}", self.title, series, axes)


def _x_axis(
    axis: AxisKind, extent: Extent
) -> tuple[str, float, Callable[[Sequence[Point]], list[float]] | None]:
    """Label, end, and where points lie; None if that is not recorded."""
    if axis == "step":
        return "optimizer step", float(extent.steps), lambda points: [p.step for p in points]
    if axis == "time":
        unit_s, unit = time_unit(extent.wall_s)
        end = extent.wall_s / unit_s
        return f"time since launch [{unit}]", end, lambda ps: [p.wall_s / unit_s for p in ps]
    size, unit = (1e6, " [M]") if extent.tokens >= 1e6 else (1.0, "")
    label = f"sampled tokens{unit}"
    if not extent.sampled:
        return label, 1.0, None
    steps, tokens = zip(*extent.sampled, strict=True)
    return (
        label,
        extent.tokens / size,
        lambda points: [float(np.interp(p.step, steps, tokens)) / size for p in points],
    )


def metric(view: RunView, name: str) -> list[Point]:
    """A metric of every optimizer step; no point at all if no row has it."""
    return _known([Point(position(row), _wall_s(row), row.get(name)) for row in view.steps])


def eval_metric(view: RunView, name: str) -> list[Point]:
    """A metric of every eval, at the step that published the version it measured."""
    return _known([Point(_published(view, row), _wall_s(row), row.get(name)) for row in view.evals])


def buffer_metric(view: RunView, name: str) -> list[Point]:
    """A metric of every version in the buffer's rows."""
    rows = view.streams.get("buffer", [])
    return _known([Point(position(row), _wall_s(row), row.get(name)) for row in rows])


def smooth(points: Sequence[Point], window: int = SMOOTHING_STEPS) -> list[Point]:
    """Mean of the last `window` points at each point; None stays None."""
    values = [point.value for point in points]
    return [
        point
        if point.value is None
        else point._replace(value=mean_of(values[max(0, i + 1 - window) : i + 1]))
        for i, point in enumerate(points)
    ]


def actor_series(
    view: RunView, name: str, combine: Callable[[list[float]], float | None]
) -> list[Point]:
    """A metric combined over the actors at each version that any of them reports.

    An actor that did not report a version counts with its value before; one that reports no more
    counts for ACTOR_GONE_VERSIONS further versions.
    """
    rows = [
        (row, actor)
        for actor, own in view.actors.items()
        for row in own
        if row.get(name) is not None
    ]
    rows.sort(key=lambda item: (version_of(item[0]), _wall_s(item[0])))
    last_version = {actor: version_of(row) for row, actor in rows}
    latest: dict[str, float] = {}
    by_version: dict[int, Point] = {}
    for row, actor in rows:
        version = version_of(row)
        latest[actor] = row[name]
        oldest = version - ACTOR_GONE_VERSIONS
        latest = {other: value for other, value in latest.items() if last_version[other] >= oldest}
        combined = combine(list(latest.values()))
        by_version[version] = Point(_published(view, row), _wall_s(row), combined)
    return list(by_version.values())


def time_unit(longest_s: float) -> tuple[float, str]:
    """(seconds, name) of the unit in which a time axis up to `longest_s` reads well."""
    if longest_s < 120:
        return 1.0, "s"
    return (60.0, "min") if longest_s < 7200 else (3600.0, "h")


def _known(points: list[Point]) -> list[Point]:
    return points if any(point.value is not None for point in points) else []


def _published(view: RunView, row: Row) -> int:
    return view.step_of_version(version_of(row))


def _wall_s(row: Row) -> float:
    return float(row.get("wall_s") or 0.0)
