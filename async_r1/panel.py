"""Progress as a live panel on a terminal."""

from collections.abc import Callable
from typing import TextIO

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from async_r1.formatting import UNKNOWN, count, duration, number, percent, sparkline, versions
from async_r1.role_view import RoleView
from async_r1.rows import Row
from async_r1.view import RunView

MAX_WIDTH = 100
SPARK_WIDTH = 30
MAX_ROLES = 8
_FRAME = 6  # border and padding, both sides
_COLUMNS = (18, 8, 26)  # name, value, note
_STATE_STYLE = {"running": "green", "done": "dim", "waiting": "yellow", "starting": "cyan"}


class LivePanel:
    """Draws `render` in place until closed; the last state stays on the screen."""

    def __init__(self, view: RunView, stream: TextIO, clock: Callable[[], float]) -> None:
        self._view = view
        self._clock = clock
        self._live = Live(console=Console(file=stream, force_terminal=True), auto_refresh=False)
        self._live.start()

    def update(self) -> None:
        """Draw the view as it is now."""
        panel = render(self._view, self._clock(), self._live.console.width)
        self._live.update(panel, refresh=True)

    def close(self) -> None:
        """Leave the panel standing and give the cursor back."""
        self._live.stop()


def render(view: RunView, now: float, width: int = MAX_WIDTH) -> Panel:
    """The panel: what the roles wait for while starting, then the numbers of the last step.

    Args:
        now: time.time().
        width: columns of the terminal; the panel takes MAX_WIDTH at most.
    """
    width = min(width, MAX_WIDTH)
    roles = view.roles(now)
    body: RenderableType
    if view.steps:
        body = Group(
            _progress(view, now), Text(), _numbers(view, width), Rule(style="dim"), _roles(roles)
        )
    else:
        body = Group(Text("starting", style="bold"), Text(), _roles(roles))
    experiment = view.option("experiment") or view.option("task.name", "")
    name = f"async_r1 · {experiment}" if experiment else "async_r1"
    return Panel(
        body,
        title=Text(f" {name} ", style="bold"),
        title_align="left",
        subtitle=Text(f" {view.run_dir.root} ", style="dim"),
        subtitle_align="left",
        box=ROUNDED,
        border_style="dim",
        padding=(1, 2),
        width=width,
    )


def _progress(view: RunView, now: float) -> Table:
    num_updates = view.option("learner.num_updates")
    grid = Table.grid(padding=(0, 2), expand=True)
    for ratio in (None, None, 1, None, None):
        grid.add_column(ratio=ratio, no_wrap=True)
    grid.add_row(
        Text.assemble(("step ", "dim"), (f"{count(view.step)}/{count(num_updates)}", "bold")),
        Text.assemble(("version ", "dim"), (count(view.version), "bold")),
        ProgressBar(num_updates, view.step, complete_style="cyan", finished_style="green")
        if num_updates
        else Text(),
        Text.assemble((duration(view.elapsed_s(now)), "bold"), (" elapsed", "dim")),
        Text.assemble((duration(view.time_left_s(now)), "bold"), (" left", "dim")),
    )
    return grid


def _numbers(view: RunView, width: int) -> Table:
    # As wide as there is room for: cutting one off would hide the newest values.
    cells = max(0, min(SPARK_WIDTH, width - _FRAME - sum(_COLUMNS) - 2 * len(_COLUMNS)))
    rewards = sparkline([row.get("reward/mean") for row in view.steps], cells)
    lengths = sparkline([row.get("completion_length/mean") for row in view.steps], cells)
    evals = sparkline([row.get("eval/accuracy") for row in view.evals], cells, 0.0, 1.0)
    bound = view.latest("staleness/bound")
    table = Table.grid(padding=(0, 2))
    name_width, value_width, note_width = _COLUMNS
    table.add_column(style="dim", min_width=name_width)
    table.add_column(justify="right", min_width=value_width, style="bold")
    table.add_column(min_width=note_width)
    table.add_column(style="cyan", no_wrap=True)
    table.add_row(
        "reward",
        number(view.latest("reward/mean")),
        _note(f"smoothed {number(view.smoothed('reward/mean'))}"),
        rewards,
    )
    table.add_row(
        "held-out accuracy",
        number(view.evals[-1].get("eval/accuracy") if view.evals else None),
        _note(_eval_note(view.evals)),
        evals,
    )
    table.add_row(
        "accuracy",
        number(view.latest("accuracy/mean")),
        _note(f"smoothed {number(view.smoothed('accuracy/mean'))}"),
    )
    table.add_row(
        "completion length",
        number(view.latest("completion_length/mean"), 1),
        _note(f"tokens, longest {count(view.latest('completion_length/max'))}"),
        lengths,
    )
    table.add_row(
        "tokens/s sampled",
        count(view.actor_sum("perf/tokens_per_s")),
        _note(f"actors idle {percent(view.actor_mean('actor/idle_frac'))}"),
    )
    table.add_row(
        "tokens/s trained",
        count(view.latest("perf/tokens_per_s")),
        _note(f"learner idle {percent(view.latest('learner/idle_frac'))}"),
    )
    table.add_row(
        "staleness mean",
        number(view.latest("staleness/mean"), 2),
        _note(f"versions, max {count(view.latest('staleness/max'))}, bound {count(bound)}"),
    )
    if view.streams.get("buffer"):
        _add_buffer(table, view)
    return table


def _add_buffer(table: Table, view: RunView) -> None:
    """What the buffer holds back, keeps, and leaves out."""

    def of(name: str) -> float | None:
        return view.latest_of("buffer", name)

    replay = number(of("buffer/samples_per_insert"), 2)
    table.add_row(
        "admission blocked",
        percent(of("admission/blocked_frac")),
        _note(f"{count(of('groups/kept'))} groups kept, replay {replay}"),
    )
    measured = [of(f"selection/ks_{what}/with_variance") for what in ("length", "tokens", "level")]
    known = [value for value in measured if value is not None]
    limit = number(view.option("buffer.selection_ks_warn"), 2)
    biased = bool(of("selection/biased"))
    table.add_row(
        "selection KS",
        Text(number(max(known, default=None)), style="red" if biased else ""),
        _note(f"trained vs generated, limit {limit}"),
    )


def _eval_note(evals: list[Row]) -> str:
    if not evals:
        return "not measured yet"
    margin = evals[-1].get("eval/accuracy/ci95")
    margin_text = UNKNOWN if margin is None else f"± {number(margin)}"
    return f"{margin_text} at {versions(evals[-1])}"


def _roles(roles: list[RoleView]) -> Table:
    # Those that hold the others up are listed first where there are too many to list.
    shown = roles
    if len(roles) > MAX_ROLES:
        shown = sorted(roles, key=lambda role: role.state in ("running", "done"))[:MAX_ROLES]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=18)
    table.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column(justify="right", style="dim")
    for role in shown:
        text = Text(role.text, style=_STATE_STYLE.get(role.state, ""))
        table.add_row(role.name, text, "" if role.state == "done" else duration(role.age_s))
    if len(roles) > len(shown):
        table.add_row("", Text(f"and {len(roles) - len(shown)} more roles", style="dim"))
    return table


def _note(text: str) -> Text:
    return Text(text, style="dim")
