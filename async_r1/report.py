"""`RUN/report.html`: a run on one self-contained page, made from the files of its directory."""

import argparse
import base64
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from async_r1.chart import AXIS_KINDS, Chart, Extent, sampled_by_step
from async_r1.errors import RunDirError
from async_r1.formatting import significant
from async_r1.report_charts import charts
from async_r1.report_numbers import header, numbers_section, tiles
from async_r1.report_rollouts import rollouts_section
from async_r1.report_selection import selection_section
from async_r1.report_words import words_section
from async_r1.run_dir import RunDir
from async_r1.summary import summarize
from async_r1.view import RunView


def main(argv: Sequence[str] | None = None) -> int:
    """`async_r1 report RUN_DIR`: write the report and print its path; exit code 2 on misuse."""
    parser = argparse.ArgumentParser(
        prog="async_r1 report", description="Write RUN_DIR/report.html from the files of a run."
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="directory of a run")
    args = parser.parse_args(argv)
    try:
        print(write_report(args.run_dir))
    except RunDirError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_report(run_dir: RunDir | str | os.PathLike[str]) -> Path:
    """Write the report of a run, finished or not, and return its path.

    Raises:
        RunDirError: there is no run in the directory, or the page cannot be written.
    """
    view = RunView(run_dir)
    if not view.run_dir.resolved.exists():
        raise RunDirError(f"{view.run_dir.root} holds no run: it has no config/resolved.json")
    path = view.run_dir.report
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(render(view), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error}") from None
    return path


def render(view: RunView) -> str:
    """The page. Its policy lets nothing run but its own script and nothing be fetched."""
    summary = summarize(view)
    assets = files("async_r1") / "assets"
    css = (assets / "report.css").read_text(encoding="utf-8")
    script = (assets / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    sections = [
        header(view, summary),
        words_section(view, summary),
        tiles(summary),
        _toolbar(),
        _charts_section(view),
        numbers_section(view, summary),
        selection_section(view),
        rollouts_section(view),
        _config_section(view),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(view.name)} - async_r1</title>\n<style>\n{css}</style>\n</head>\n"
        "<body>\n" + "\n".join(sections) + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _toolbar() -> str:
    return (
        '<nav><a href="#charts">Charts</a><a href="#numbers">Numbers</a>'
        '<a href="#rollouts">Rollouts</a><a href="#configuration">Configuration</a>'
        '<fieldset class="switch"><legend>x axis</legend>'
        '<input type="radio" name="axis" id="axis-step" checked>'
        '<label for="axis-step">steps</label>'
        '<input type="radio" name="axis" id="axis-time">'
        '<label for="axis-time">time</label>'
        '<input type="radio" name="axis" id="axis-tokens">'
        '<label for="axis-tokens">tokens</label></fieldset></nav>'
    )


def _charts_section(view: RunView) -> str:
    extent = Extent(max(view.step, 1), view.recorded_s, sampled_by_step(view))
    figures = "\n".join(_figure(chart, extent) for chart in charts(view))
    return f'<section id="charts" class="charts">\n{figures}\n</section>'


def _figure(chart: Chart, extent: Extent) -> str:
    legend = "".join(
        f'<li class="{line.style}" style="--c:{line.color}">{escape(line.label)} '
        f"<b>{significant(line.last)}</b></li>"
        for line in chart.lines
    )
    drawings = "".join(
        f'<div class="by-{axis}">{chart.svg(axis, extent)}</div>' for axis in AXIS_KINDS
    )
    return (
        f'<figure id="chart-{chart.name}"><figcaption><h2>{escape(chart.title)}</h2>'
        f"<p>{escape(chart.note)}</p><ul>{legend}</ul></figcaption>{drawings}</figure>"
    )


def _config_section(view: RunView) -> str:
    overrides = view.run_dir.config / "overrides.yaml"
    parts = []
    if overrides.exists():
        parts.append(_details("Overrides", overrides.read_text(errors="replace"), is_open=True))
    parts.append(_details("Full configuration", _json(view.resolved.get("config", {}))))
    if view.run_dir.environment.exists():
        environment = view.run_dir.environment.read_text(errors="replace")
        parts.append(_details("Environment", environment))
    return f'<section id="configuration"><h2>Configuration</h2>{"".join(parts)}</section>'


def _details(title: str, text: str, is_open: bool = False) -> str:
    state = " open" if is_open else ""
    return f"<details{state}><summary>{title}</summary><pre>{escape(text.strip())}</pre></details>"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
