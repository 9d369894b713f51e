"""Charts: drawn points turned back into values through the printed ticks."""

import math
import random
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_r1.scale import tick_label, tick_step, ticks, value_range
from async_r1.svg import Axes, Series, describe, line_chart, thin

AXES = Axes(x_label="optimizer step", y_label="reward", x_high=40)
finite = st.floats(-1e9, 1e9, allow_nan=False)


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def pixels(group: ET.Element) -> list[list[tuple[float, float]]]:
    """The runs of points of a series."""
    lines = [
        [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
        for line in group.findall("polyline")
    ]
    dots = [[(float(d.get("cx", "")), float(d.get("cy", "")))] for d in group.findall("circle")]
    return [*lines, *dots]  # type: ignore[list-item]


def axis_from_ticks(svg: ET.Element, kind: str) -> tuple[float, float]:
    """(slope, intercept) of value = slope * pixel + intercept, from the two outermost labels."""
    place = "x" if kind == "x" else "y"
    found = [
        (float(t.get(place, "")), float((t.text or "").replace("k", "e3")))
        for t in svg.findall("text")
        if t.get("class") == f"tick {kind}"
    ]
    (p0, v0), (p1, v1) = found[0], found[-1]
    slope = (v1 - v0) / (p1 - p0)
    return slope, v0 - slope * p0


def values(svg: ET.Element, label: str) -> list[list[tuple[float, float]]]:
    (group,) = [g for g in svg.findall("g") if g.get("data-name") == label]
    (ax, bx), (ay, by) = axis_from_ticks(svg, "x"), axis_from_ticks(svg, "y")
    return [[(ax * px + bx, ay * py + by) for px, py in run] for run in pixels(group)]


def test_points_read_off_the_ticks_are_the_values() -> None:
    rng = random.Random(0)
    x = list(range(1, 41))
    y = [rng.uniform(-3, 7) for _ in x]
    svg = parse(line_chart("a", "Reward", [Series(label="mean", x=x, y=y, color="red")], AXES))
    (run,) = values(svg, "mean")
    for (read_x, read_y), true_x, true_y in zip(run, x, y, strict=True):
        assert read_x == pytest.approx(true_x, abs=40 / 450 * 0.02)
        assert read_y == pytest.approx(true_y, abs=10 / 190 * 0.02)


def test_data_attributes_agree_with_the_ticks() -> None:
    y = [1000.0, 9000.0, 12345.0]
    svg = parse(line_chart("a", "T", [Series(label="a", x=[0, 20, 40], y=y, color="red")], AXES))
    for kind in ("x", "y"):
        low, high, start, end = map(float, svg.get(f"data-{kind}", "").split(","))
        slope, intercept = axis_from_ticks(svg, kind)
        assert slope * start + intercept == pytest.approx(low, abs=1e-2 * (high - low))
        assert slope * end + intercept == pytest.approx(high, rel=1e-2)


def test_gaps_split_lines_and_a_lone_point_is_a_dot() -> None:
    y = [1.0, 2.0, None, 3.0, None, None, 2.0, 1.0, 0.5]
    svg = parse(line_chart("a", "T", [Series(label="a", x=range(9), y=y, color="red")], AXES))
    runs = sorted(values(svg, "a"), key=lambda run: run[0])
    assert [[round(px) for px, _ in run] for run in runs] == [[0, 1], [3], [6, 7, 8]]


def test_nothing_recorded() -> None:
    for series in ([], [Series(label="a", x=[1, 2], y=[None, None], color="red")]):
        svg = parse(line_chart("a", "T", series, AXES))
        assert svg.get("data-x") is None
        assert next(t.text for t in svg.findall("text")) == "nothing recorded"
        assert svg.find("desc") is not None


def test_a_chart_is_described_and_named() -> None:
    series = [
        Series(label="mean <b>", x=[1, 5, 9], y=[0.5, 0.1, 0.8], color="red"),
        Series(label="raw", x=[1], y=[3.0], color="red", style="faint"),
    ]
    svg = parse(line_chart("reward-step", "Reward & more", series, AXES))
    assert svg.get("role") == "img"
    labelled = svg.get("aria-labelledby", "").split()
    assert [e.get("id") for e in (svg.find("title"), svg.find("desc")) if e is not None] == labelled
    assert svg.findtext("title") == "Reward & more"
    assert svg.findtext("desc") == describe(series, AXES)
    assert describe(series, AXES) == (
        "reward over optimizer step. mean <b>: 0.5 at 1, 0.8 at 9, between 0.1 and 0.8."
    )
    labels = [t.text for t in svg.findall("text") if t.get("class") == "label"]
    assert labels == ["optimizer step", "reward"]


def test_a_band_stays_inside_the_plot() -> None:
    line = Series(label="a", x=[0, 20], y=[0.02, 0.99], color="red", margin=[0.1, 0.1])
    axes = Axes(x_label="x", y_label="y", x_high=40, y_low=0.0, y_high=1.0)
    svg = parse(line_chart("a", "T", [line], axes))
    polygon = svg.find("g/polygon")
    assert polygon is not None
    slope, intercept = axis_from_ticks(svg, "y")
    edge = [slope * float(p.split(",")[1]) + intercept for p in polygon.get("points", "").split()]
    assert edge == pytest.approx([0.12, 1.0, 0.89, 0.0], abs=1e-3)


@given(finite, finite, st.integers(2, 10), st.booleans())
def test_ticks_are_round_few_and_inside(a: float, b: float, most: int, integer: bool) -> None:
    low, high = sorted((a, b))
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):
        return
    step = tick_step(low, high, most, integer)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 1e-6
    assert not integer or step == int(step)
    found = ticks(low, high, step)
    assert len(found) <= most + 1
    slack = 1e-6 * step
    assert all(low - slack <= tick <= high + slack for tick in found)


@given(st.lists(finite, min_size=1, max_size=20), st.sampled_from([None, 0.0]))
def test_a_value_axis_holds_its_values_and_ends_on_ticks(
    values: list[float], low: float | None
) -> None:
    bottom, top, step = value_range(values, low, None, 5)
    slack = 1e-6 * step
    assert bottom - slack <= min(values) and max(values) <= top + slack
    assert low is None or bottom <= low + slack
    for end in (bottom, top):
        assert abs(end / step - round(end / step)) < 1e-6


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (0.25, 0.25, "0.25"),
        (0.0, 0.2, "0"),
        (2.5, 2.5, "2.5"),
        (40.0, 20.0, "40"),
        (0.30000000000000004, 0.1, "0.3"),
        (12000.0, 2000.0, "12k"),
        (2500.0, 2500.0, "2.5k"),
        (0.0005, 0.0005, "0.0005"),
    ],
)
def test_tick_labels(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


@given(st.integers(1, 3000), st.integers(1, 50), st.randoms(use_true_random=False))
def test_thinning_keeps_what_is_seen(count: int, columns: int, rng: random.Random) -> None:
    points = [(float(i), rng.gauss(0, 1)) for i in range(count)]
    kept = thin(points, columns)
    assert set(kept) <= set(points) and kept == sorted(kept)
    assert len(kept) <= max(4 * columns, 1)
    if count <= 4 * columns:
        assert kept == points
        return
    # Column by column: the naive extremes are among what was kept.
    span = points[-1][0]
    for column in range(columns):
        own = [p for p in points if min(columns - 1, int(p[0] / span * columns)) == column]
        if own:
            ys = [y for _, y in own]
            kept_ys = [y for x, y in kept if (x, y) in own]
            assert min(ys) in kept_ys and max(ys) in kept_ys
            assert own[0] in kept and own[-1] in kept


def test_colours_and_labels_cannot_leave_their_attributes() -> None:
    evil = '"><script>alert(1)</script>'
    svg = line_chart("a", evil, [Series(label=evil, x=[1, 2], y=[1.0, 2.0], color=evil)], AXES)
    assert "<script" not in svg
    assert re.search(r"&lt;script&gt;", svg)
    parse(svg)
