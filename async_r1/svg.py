"""Line charts as SVG text: no library, no script; colours and fonts come from the page's CSS.

A chart is drawn in a view box of WIDTH x HEIGHT and scales with the page. The ranges of both
axes stand on the element as `data-x` and `data-y` (`low,high,pixel of low,pixel of high`), so
that a script or a test can turn drawn points back into values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal

from async_r1.scale import Scale, tick_label, tick_step, ticks, value_range

WIDTH, HEIGHT = 520, 236
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 8, 38
X_INTERVALS, Y_INTERVALS = 8, 5

Point = tuple[float, float]
LineStyle = Literal["line", "faint", "dashed", "dots"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: values `y` at `x`, None where unknown, which leaves a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    color: str  # any CSS colour
    style: LineStyle = "line"
    margin: Sequence[float | None] = ()  # half width of a band around y

    @property
    def known(self) -> list[Point]:
        """The points that have a value."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What the axes are called, and values that they must hold besides the drawn ones.

    The x axis goes from 0 to `x_high` or beyond.
    """

    x_label: str
    y_label: str
    x_high: float = 1.0
    y_low: float | None = None
    y_high: float | None = None
    integer_x: bool = False


def line_chart(ident: str, title: str, series: Sequence[Series], axes: Axes) -> str:
    """The `<svg>` element of a chart; a chart without any value says so.

    Args:
        ident: unique in the page, [a-z0-9-].
    """
    known = [point for line in series for point in line.known]
    if known:
        x, x_step = _x_axis([x for x, _ in known], axes)
        y, y_step = _y_axis([y for _, y in known], axes)
        data = f' data-x="{_range(x)}" data-y="{_range(y)}"'
        body = [
            *_grid(x, x_step, y, y_step),
            *(_draw(line, x, y) for line in series),
            f'<line class="cursor" y1="{y.end}" y2="{y.start}"/>',
            # Covers the plot for the pointer; its empty title silences that of the chart.
            f'<rect class="hit" x="{x.start}" y="{y.end}" width="{x.end - x.start}" '
            f'height="{y.start - y.end}"><title></title></rect>',
        ]
    else:
        data = ""
        body = [f'<text class="empty" x="{WIDTH / 2}" y="{HEIGHT / 2}">nothing recorded</text>']
    return "\n".join(
        [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-labelledby="{ident}-title {ident}-desc"{data}>',
            f'<title id="{ident}-title">{escape(title)}</title>',
            f'<desc id="{ident}-desc">{escape(describe(series, axes))}</desc>',
            *body,
            _axis_labels(axes),
            "</svg>",
        ]
    )


def describe(series: Sequence[Series], axes: Axes) -> str:
    """The chart in words, for those who cannot see it."""
    parts = []
    for line in series:
        if line.known and line.style != "faint":
            (x0, y0), (x1, y1) = line.known[0], line.known[-1]
            low, high = min(y for _, y in line.known), max(y for _, y in line.known)
            parts.append(
                f"{line.label}: {y0:.3g} at {x0:.4g}, {y1:.3g} at {x1:.4g}, "
                f"between {low:.3g} and {high:.3g}"
            )
    return f"{axes.y_label} over {axes.x_label}. " + ("; ".join(parts) or "Nothing recorded") + "."


def thin(points: Sequence[Point], columns: int) -> list[Point]:
    """At most four points per column of equal width: first, last, lowest and highest.

    Draws the same pixels as all points do (M4: Jugel et al., VLDB 2014). Few points stay as
    they are.
    """
    if len(points) <= 4 * columns:
        return list(points)
    low, span = points[0][0], (points[-1][0] - points[0][0]) or 1.0
    kept: list[Point] = []
    for _, group in groupby(points, lambda p: min(columns - 1, int((p[0] - low) / span * columns))):
        column = list(group)
        extremes = {min(column, key=_y), max(column, key=_y), column[0], column[-1]}
        kept += sorted(extremes, key=column.index)
    return kept


def _x_axis(values: list[float], axes: Axes) -> tuple[Scale, float]:
    high = max(axes.x_high, *values, 1e-9)
    scale = Scale(min(0.0, *values), high, LEFT, WIDTH - RIGHT)
    return scale, tick_step(scale.low, scale.high, X_INTERVALS, axes.integer_x)


def _y_axis(values: list[float], axes: Axes) -> tuple[Scale, float]:
    low, high, step = value_range(values, axes.y_low, axes.y_high, Y_INTERVALS)
    return Scale(low, high, HEIGHT - BOTTOM, TOP), step


def _grid(x: Scale, x_step: float, y: Scale, y_step: float) -> Iterator[str]:
    for value in ticks(y.low, y.high, y_step):
        at = f"{y(value):.2f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text class="tick y" x="{LEFT - 7}" y="{at}">{tick_label(value, y_step)}</text>'
    for value in ticks(x.low, x.high, x_step):
        at = f"{x(value):.2f}"
        yield f'<line class="mark" x1="{at}" x2="{at}" y1="{y.start}" y2="{y.start + 4}"/>'
        yield f'<text class="tick x" x="{at}" y="{y.start + 16}">{tick_label(value, x_step)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.start}" y2="{y.start}"/>'


def _axis_labels(axes: Axes) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}">'
        f"{escape(axes.x_label)}</text>"
        f'<text class="label" transform="translate(9 {middle}) rotate(-90)">'
        f"{escape(axes.y_label)}</text>"
    )


def _draw(line: Series, x: Scale, y: Scale) -> str:
    shapes = []
    margins = line.margin or [None] * len(line.y)
    for run in _runs(line.x, line.y, margins):
        band = [(px, py, m) for px, py, m in run if m is not None]
        if len(band) > 1:
            upper = [(px, min(py + m, y.high)) for px, py, m in band]
            lower = [(px, max(py - m, y.low)) for px, py, m in band]
            shapes.append(f'<polygon class="band" points="{_points(upper + lower[::-1], x, y)}"/>')
        points = [(px, py) for px, py, _ in run]
        if len(points) > 1:
            drawn = _points(thin(points, WIDTH - LEFT - RIGHT), x, y)
            shapes.append(f'<polyline points="{drawn}"/>')
        if line.style == "dots" or len(points) == 1:
            shapes += [f'<circle cx="{x(a):.2f}" cy="{y(b):.2f}" r="2.6"/>' for a, b in points]
    return (
        f'<g class="series {line.style}" style="--c:{escape(line.color)}" '
        f'data-name="{escape(line.label)}">{"".join(shapes)}</g>'
    )


def _runs(
    xs: Sequence[float], ys: Sequence[float | None], margins: Sequence[float | None]
) -> Iterator[list[tuple[float, float, float | None]]]:
    run: list[tuple[float, float, float | None]] = []
    for x, y, margin in zip(xs, ys, margins, strict=True):
        if y is not None:
            run.append((x, y, margin))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _points(points: Sequence[Point], x: Scale, y: Scale) -> str:
    return " ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in points)


def _range(scale: Scale) -> str:
    return f"{scale.low!r},{scale.high!r},{scale.start},{scale.end}"


def _y(point: Point) -> float:
    return point[1]
