"""Held-out accuracy of finished runs as a figure for the docs, and as a table.

    .venv/bin/python benchmarks/curves.py RUN [RUN ...] [--figure FILE.svg]

One run is drawn by level, several by name.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from async_r1.rows import level_accuracies
from async_r1.svg import Axes, Series, line_chart
from async_r1.view import RunView

Curve = Sequence[tuple[int, float] | list[float]]  # (policy version, accuracy)

COLORS = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626")
STYLE = """<style>
svg { background: #fff; font-family: system-ui, sans-serif; }
svg text { font-size: 11px; fill: #555; } svg .grid { stroke: #e5e5e5; } svg .axis { stroke: #999; }
svg .tick.y { text-anchor: end; dominant-baseline: central; }
svg .tick.x, svg .label { text-anchor: middle; }
svg polyline { fill: none; stroke-width: 1.8; }
svg .hit { fill: transparent; } svg .cursor { visibility: hidden; }
svg .dashed polyline { stroke-dasharray: 5 4; }
</style>"""


def accuracy_figure(title: str, curves: Mapping[str, Curve]) -> str:
    """An SVG that stands alone: accuracy over versions, a line for each label."""
    series = [
        Series(
            label=label,
            x=[version for version, _ in curve],
            y=[accuracy for _, accuracy in curve],
            color=COLORS[index % len(COLORS)],
        )
        for index, (label, curve) in enumerate(curves.items())
    ]
    axes = Axes(
        x_label="policy version",
        y_label="held-out accuracy",
        x_high=max(series[0].x),
        y_low=0.0,
        y_high=1.0,
        integer_x=True,
    )
    return figure(title, series, axes)


def figure(title: str, series: Sequence[Series], axes: Axes) -> str:
    """A chart as an SVG that stands alone."""
    chart = line_chart("figure", title, series, axes)
    # Plain attributes: not every viewer of an image knows CSS variables.
    head, rest = re.sub(r'style="--c:([^"]+)"', r'stroke="\1"', chart).split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="640">{STYLE}{rest}\n'


def by_level(view: RunView) -> dict[str, list[tuple[int, float]]]:
    """The curve of all levels, and of each."""
    curves = {"all levels": [(row["policy_version"], row["eval/accuracy"]) for row in view.evals]}
    for row in view.evals:
        for level, accuracy in level_accuracies(row):
            if accuracy is not None:
                curve = curves.setdefault(f"level {level}", [])
                curve.append((row["policy_version"], accuracy))
    return curves


def print_table(view: RunView) -> None:
    """One line for each measurement."""
    print("version  accuracy  tokens  wall      by level")
    for row in view.evals:
        levels = "  ".join(f"{level}: {value:.3f}" for level, value in level_accuracies(row))
        print(
            f"{row['policy_version']:7}  {row['eval/accuracy']:8.3f}  "
            f"{row['eval/completion_length/mean']:6.0f}  {row['wall_s']:5.0f} s   {levels}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    views = {}
    for path in args.runs:
        views[path.name] = view = RunView(path)
        view.refresh()
        print(path.name)
        print_table(view)
    curves = {name: by_level(view)["all levels"] for name, view in views.items()}
    if len(views) == 1:
        curves = by_level(next(iter(views.values())))
    if args.figure:
        args.figure.write_text(accuracy_figure("Held-out accuracy", curves))
    return 0


if __name__ == "__main__":
    sys.exit(main())
