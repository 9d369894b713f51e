"""`RUN/report.html`: a run on one self-contained page, made from the files of its directory."""

import argparse
import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from async_r1.chart import AXIS_KINDS, Chart, Extent
from async_r1.errors import RunDirError
from async_r1.formatting import UNKNOWN, count, duration, number, percent, significant, versions
from async_r1.report_charts import charts
from async_r1.report_rollouts import rollouts_section
from async_r1.run_dir import RunDir
from async_r1.summary import Summary, accuracy_rows, bound_text, lines, summarize
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
        _header(view, summary),
        _tiles(summary),
        _toolbar(),
        _charts_section(view),
        _numbers_section(summary),
        rollouts_section(view),
        _config_section(view),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_name(view))} - async_r1</title>\n<style>\n{css}</style>\n</head>\n"
        "<body>\n" + "\n".join(sections) + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _name(view: RunView) -> str:
    return view.run_dir.root.resolve().name


def _header(view: RunView, summary: Summary) -> str:
    started_at = view.resolved.get("started_at")
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(started_at)) if started_at else UNKNOWN
    facts = {
        "experiment": view.option("experiment"),
        "task": view.option("task.name"),
        "model": view.option("model.path"),
        "mode": view.option("mode"),
        "seed": view.option("seed"),
        "started": day,
        "wall time": duration(summary.wall_s),
    }
    shown = "".join(
        f"<span><b>{escape(name)}</b> {escape(str(value))}</span>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    failure = ""
    if summary.state == "failed":
        status = view.status
        failure = (
            f'<p class="failure">{escape(str(status.get("role") or "a role"))} failed: '
            f"{escape(str(status.get('error') or 'see its log'))} "
            f"<code>{escape(str(status.get('log') or ''))}</code></p>"
        )
    state = escape(summary.state)
    return (
        f'<header><h1>{escape(_name(view))} <span class="state {state}">{state}</span></h1>'
        f'<p class="facts">{shown}</p>{failure}</header>'
    )


def _tiles(s: Summary) -> str:
    first, last = s.first_eval or {}, s.last_eval or {}
    kept = {True: "kept at every step", False: bound_text(s), None: bound_text(s)}[s.bound_kept]
    tiles = [
        (
            "held-out accuracy",
            number(last.get("eval/accuracy")),
            f"{versions(s.last_eval)}; from {number(first.get('eval/accuracy'))} "
            f"at {versions(s.first_eval)}",
        ),
        ("reward", number(s.reward_last), f"from {number(s.reward_first)}"),
        (
            "completion length",
            number(s.length_last, 1),
            f"tokens; from {number(s.length_first, 1)}",
        ),
        (
            "staleness",
            number(s.staleness_mean, 2),
            f"mean; max {count(s.staleness_max)}, bound {count(s.staleness_bound)} {kept}",
        ),
        ("sampled tokens/s", count(s.sampled_per_s), f"trained {count(s.trained_per_s)}"),
        ("actors idle", percent(s.actor_idle_frac), f"learner {percent(s.learner_idle_frac)}"),
    ]
    return (
        '<section class="tiles">'
        + "".join(
            f"<div{_bad(name == 'staleness' and s.bound_kept is False)}><h2>{name}</h2>"
            f"<strong>{escape(value)}</strong><p>{escape(note)}</p></div>"
            for name, value, note in tiles
        )
        + "</section>"
    )


def _toolbar() -> str:
    return (
        '<nav><a href="#charts">Charts</a><a href="#numbers">Numbers</a>'
        '<a href="#rollouts">Rollouts</a><a href="#configuration">Configuration</a>'
        '<fieldset class="switch"><legend>x axis</legend>'
        '<input type="radio" name="axis" id="axis-step" checked>'
        '<label for="axis-step">steps</label>'
        '<input type="radio" name="axis" id="axis-time">'
        '<label for="axis-time">time</label></fieldset></nav>'
    )


def _charts_section(view: RunView) -> str:
    extent = Extent(max(view.step, 1), view.recorded_s)
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


def _numbers_section(summary: Summary) -> str:
    evals = {"first": summary.first_eval, "last": summary.last_eval, "best": summary.best_eval}
    heads = "".join(f"<th>{name} {versions(row)}</th>" for name, row in evals.items())
    accuracy = "".join(
        f"<tr><th>{title}</th>{''.join(f'<td>{number(v)}</td>' for v in values)}</tr>"
        for title, values in accuracy_rows(summary)
    )
    rows = "".join(
        f"<tr{_bad(name.startswith('bound') and summary.bound_kept is False)}>"
        f"<th>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in lines(summary)
    )
    return (
        '<section id="numbers"><h2>Numbers</h2><div class="tables">'
        f'<table class="numeric"><thead><tr><th>held-out accuracy</th>{heads}</tr></thead>'
        f"<tbody>{accuracy}</tbody></table><table><tbody>{rows}</tbody></table></div></section>"
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


def _bad(condition: bool) -> str:
    return ' class="bad"' if condition else ""
