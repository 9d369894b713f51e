"""What `launch` shows: plain lines word for word, the panel as rendered text."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import rich.console

from async_r1.console import Console
from async_r1.formatting import percent
from async_r1.panel import MAX_ROLES, render
from async_r1.plain import HEADER_EVERY, REMIND_EVERY_S
from async_r1.run_dir import RunDir
from async_r1.view import RunView
from tests.async_r1.synthetic_run import (
    STARTED_AT,
    make_config,
    make_run,
    write_role,
    write_rows,
)

HEADER = (
    "       step  version   reward  accuracy  length  sampled/s  trained/s  stale  max"
    "  actor idle  learner idle          left"
)


class Clock:
    """A clock that only the test moves."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return STARTED_AT + self.seconds


def open_console(
    run: RunDir, stream: io.StringIO, clock: Clock, how: Any = "plain", **options: int
) -> Console:
    config = make_config(run.root, **options)
    logging = dataclasses.replace(config.logging, console=how)
    return Console(dataclasses.replace(config, logging=logging), run, stream, clock)


def empty_run(path: Path, **options: int) -> RunDir:
    run = make_run(path, steps=1, total_steps=100, **options)
    for file in [*run.metrics.iterdir(), *run.roles.iterdir()]:
        file.unlink()
    return run


LEARNER_ROW = {
    "wall_s": 16.4,
    "step": 1,
    "policy_version": 0,
    "reward/mean": 0.1734,
    "accuracy/mean": 0.092,
    "completion_length/mean": 31.26,
    "perf/tokens_per_s": 3333.3,
    "staleness/mean": 0.0,
    "staleness/max": 0,
    "learner/idle_frac": 0.152,
    "time/step_s": 2.0,
}


def test_plain_lines_from_start_to_first_steps(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run", actors=1)
    stream, clock = io.StringIO(), Clock(0.0)
    console = open_console(run, stream, clock)
    console.update()
    clock.seconds = 2.0
    write_role(run, "buffer", "running", "listening on tcp://127.0.0.1:5001", clock())
    write_role(run, "actor_000", "starting", "importing vLLM", clock())
    write_role(run, "learner_000", "waiting", "1 actors to join", clock())
    console.update()
    console.update()
    clock.seconds = 14.0
    write_role(run, "actor_000", "running", "sampling", clock())
    console.update()
    write_rows(run, "actor_000", [{"perf/tokens_per_s": 4663.2, "actor/idle_frac": 0.05}])
    write_rows(run, "learner", [LEARNER_ROW])
    clock.seconds = 16.4
    console.update()
    row = {**LEARNER_ROW, "wall_s": 18.4, "step": 2, "policy_version": 1, "reward/mean": None}
    write_rows(run, "learner", [row])
    eval_row = {"wall_s": 17.0, "policy_version": 0, "policy_version_max": 1}
    levels = {"eval/accuracy/level_10": 0.25, "eval/accuracy/level_2": 0.75}
    write_rows(
        run, "eval", [{**eval_row, "eval/accuracy": 0.5, "eval/accuracy/ci95": 0.0432, **levels}]
    )
    clock.seconds = 18.4
    console.close()
    assert stream.getvalue().splitlines() == [
        "[0 s] buffer: not started",
        "[0 s] learner_000: not started",
        "[0 s] actor_000: not started",
        "[2 s] buffer: running: listening on tcp://127.0.0.1:5001",
        "[2 s] learner_000: waiting for 1 actors to join",
        "[2 s] actor_000: starting: importing vLLM",
        "[14 s] actor_000: running: sampling",
        HEADER,
        "      1/100        0    0.173     0.092    31.3      4,663      3,333   0.00    0"
        "       5.0 %          15 %    3 min 18 s",
        "eval v0-1: accuracy 0.500 ± 0.043  (level 2: 0.75, level 10: 0.25)",
        "      2/100        1        -     0.092    31.3      4,663      3,333   0.00    0"
        "       5.0 %          15 %    3 min 16 s",
    ]


def test_plain_header_repeats_and_every_row_has_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2 * HEADER_EVERY + 1, total_steps=100)
    stream = io.StringIO()
    console = open_console(run, stream, Clock(200.0))
    for _ in range(3):
        console.update()
    console.close()
    lines = stream.getvalue().splitlines()
    headers = [i for i, line in enumerate(lines) if line == HEADER]
    steps = [line.split()[0] for line in lines if "/100" in line]
    assert steps == [f"{step}/100" for step in range(1, 2 * HEADER_EVERY + 2)]
    assert len(headers) == 3
    for header in headers:
        assert lines[header + 1].split()[0] in ("1/100", "21/100", "41/100")
    assert {len(line) for line in lines if "/100" in line} == {len(HEADER)}
    assert len([line for line in lines if line.startswith("eval v")]) == 5


def test_plain_says_what_a_long_wait_is_for_and_how_long_it_lasts(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run", actors=1)
    write_role(run, "buffer", "done", "", STARTED_AT)
    write_role(run, "actor_000", "starting", "loading nano into vLLM", STARTED_AT + 4)
    write_role(run, "learner_000", "waiting", "1 actors to join", STARTED_AT + 5)
    stream, clock = io.StringIO(), Clock(6.0)
    console = open_console(run, stream, clock)
    for clock.seconds in (6.0, 6.2, 6.0 + REMIND_EVERY_S - 0.1):
        console.update()
    quiet = len(stream.getvalue().splitlines())
    assert quiet == 3
    for clock.seconds in (6.0 + REMIND_EVERY_S, 6.2 + REMIND_EVERY_S):
        console.update()
    assert stream.getvalue().splitlines()[quiet:] == [
        "[36 s] learner_000: still waiting for 1 actors to join, for 31 s",
        "[36 s] actor_000: still starting: loading nano into vLLM, for 32 s",
    ]


def test_plain_is_silent_between_slow_steps(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    rows = [
        {**LEARNER_ROW, "step": s, "policy_version": s - 1, "wall_s": 100.0 * s} for s in (1, 2, 3)
    ]
    write_rows(run, "learner", rows)
    stream, clock = io.StringIO(), Clock(300.0)
    console = open_console(run, stream, clock)
    console.update()
    before = stream.getvalue()
    clock.seconds += 299.0
    console.update()
    assert stream.getvalue() == before
    clock.seconds += 2.0
    console.update()
    assert "still not started" in stream.getvalue()[len(before) :]


def test_quiet_prints_nothing_and_auto_is_plain_without_a_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=5)
    for how, lines in (("quiet", 0), ("auto", 7)):  # header, five steps, one eval
        stream = io.StringIO()
        console = open_console(run, stream, Clock(30.0), how)
        console.update()
        console.close()
        console.update()
        assert len(stream.getvalue().splitlines()) == lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("how", ["auto", "panel"])
def test_on_a_terminal_there_is_a_panel_and_no_plain_line(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    run = make_run(tmp_path / "run", steps=42, total_steps=100)
    stream = Terminal() if how == "auto" else io.StringIO()
    console = open_console(run, stream, Clock(120.0), how)
    console.update()
    console.close()
    text = stream.getvalue()
    assert "held-out accuracy" in text
    assert "╭" in text and HEADER not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_a_terminal_that_cannot_redraw_gets_plain_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    console = open_console(make_run(tmp_path / "run", steps=5), stream, Clock(30.0), "auto")
    console.update()
    console.close()
    assert HEADER in stream.getvalue()
    assert "╭" not in stream.getvalue()


def rendered(view: RunView, seconds: float, width: int = 110) -> list[str]:
    console = rich.console.Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True
    )
    console.print(render(view, STARTED_AT + seconds, width))
    return console.export_text().splitlines()


def line_of(lines: list[str], start: str) -> str:
    (line,) = [line for line in lines if line.strip("│ ").startswith(start)]
    return " ".join(line.strip("│ ").split())


def test_panel_shows_every_quantity_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=42, total_steps=100)
    known = {
        "reward/mean": 0.5219,
        "accuracy/mean": 0.4341,
        "completion_length/mean": 48.24,
        "completion_length/max": 146.0,
        "perf/tokens_per_s": 5140.2,
        "staleness/mean": 1.314,
        "staleness/max": 3,
        "learner/idle_frac": 0.184,
    }
    rows = run.metrics_file("learner").read_text().splitlines()
    rows[-1] = json.dumps({**json.loads(rows[-1]), **known})
    run.metrics_file("learner").write_text("\n".join(rows) + "\n")
    for index, rate in enumerate((2000.4, 2600.3)):
        row = {"policy_version": 42, "perf/tokens_per_s": rate, "actor/idle_frac": 0.04}
        write_rows(run, f"actor_{index:03d}", [row])
    write_rows(
        run,
        "eval",
        [{"policy_version": 42, "eval/accuracy": 0.4, "eval/accuracy/ci95": 0.085, "wall_s": 117}],
    )
    view = RunView(run)
    lines = rendered(view, 120.0)
    progress = line_of(lines, "step")
    assert progress.startswith("step 42/100 version 42 ")
    assert "2 min 00 s elapsed 2 min 17 s left" in progress
    assert line_of(lines, "reward").startswith("reward 0.522 smoothed ")
    assert line_of(lines, "held-out").startswith("held-out accuracy 0.400 ± 0.085 at v42 ▁▁")
    assert line_of(lines, "accuracy").startswith("accuracy 0.434 smoothed ")
    assert line_of(lines, "completion").startswith("completion length 48.2 tokens, longest 146 ▁")
    assert line_of(lines, "tokens/s sampled") == "tokens/s sampled 4,601 actors idle 4.0 %"
    assert line_of(lines, "tokens/s trained") == "tokens/s trained 5,140 learner idle 18 %"
    assert line_of(lines, "staleness") == "staleness mean 1.31 versions, max 3, bound 4"
    blocked = [row["admission/blocked_frac"] for row in view.streams["buffer"]][-1]
    assert line_of(lines, "admission") == (
        f"admission blocked {percent(blocked)} 12 groups kept, replay 1.00"
    )
    assert line_of(lines, "selection") == "selection KS 0.050 trained vs generated, limit 0.10"
    assert line_of(lines, "learner_000").startswith("learner_000 running")


def test_panel_of_a_run_without_buffer_rows_says_nothing_of_the_buffer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3, total_steps=100)
    run.metrics_file("buffer").unlink()
    assert not [line for line in rendered(RunView(run), 20.0) if "selection" in line]


def test_panel_while_starting_has_a_line_per_role(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    write_role(run, "actor_000", "starting", "loading nano into vLLM", STARTED_AT + 3)
    write_role(run, "learner_000", "waiting", "2 actors to join", STARTED_AT + 5)
    lines = rendered(RunView(run), 15.0)
    assert line_of(lines, "starting") == "starting"
    assert line_of(lines, "buffer") == "buffer not started 15 s"
    assert line_of(lines, "actor_000") == "actor_000 starting: loading nano into vLLM 12 s"
    assert line_of(lines, "learner_000") == "learner_000 waiting for 2 actors to join 10 s"


def test_panel_of_many_roles_shows_those_that_wait(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2, total_steps=9, actors=30)
    write_role(run, "actor_027", "waiting", "a lease from the buffer", STARTED_AT + 5)
    lines = rendered(RunView(run), 20.0)
    assert line_of(lines, "actor_027") == "actor_027 waiting for a lease from the buffer 15 s"
    assert line_of(lines, "and") == f"and {32 - MAX_ROLES} more roles"


@pytest.mark.parametrize(("width", "cells"), [(72, 8), (80, 16), (94, 30), (200, 30)])
def test_sparklines_take_the_room_there_is(tmp_path: Path, width: int, cells: int) -> None:
    view = RunView(make_run(tmp_path / "run", steps=42, total_steps=100))
    line = line_of(rendered(view, 120.0, width), "completion length")
    spark = line.split()[-1]
    assert len(spark) == cells
    assert spark[-1] == "█"  # the newest value, the highest of the run


def test_panel_of_a_very_narrow_terminal_has_no_sparkline(tmp_path: Path) -> None:
    view = RunView(make_run(tmp_path / "run", steps=42, total_steps=100))
    lines = rendered(view, 120.0, 60)
    assert all(len(line) <= 60 for line in lines)
    assert line_of(lines, "tokens/s sampled").startswith("tokens/s sampled 4,")


def test_panel_of_a_row_without_metrics(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    write_rows(run, "learner", [{"step": 1, "policy_version": 0}])
    lines = rendered(RunView(run), 20.0)
    assert line_of(lines, "reward") == "reward - smoothed -"
    assert line_of(lines, "held-out") == "held-out accuracy - not measured yet"
