"""Starts one actor on a job outside of the training loop: for `eval` and `curate`."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from async_r1 import rules
from async_r1.config import Config
from async_r1.config_dir import resolve_path
from async_r1.machine import read_machine
from async_r1.memory import GIB
from async_r1.model_files import check_model
from async_r1.plan_text import plan_text
from async_r1.records import new_run_dir, run_name
from async_r1.rewards.make import check_rewards
from async_r1.role_view import RoleWatch
from async_r1.run_dir import RunDir
from async_r1.run_state import print_failure
from async_r1.runner import Commands, machine_plan, role_commands, run_roles
from async_r1.supervisor import Outcome
from async_r1.tasks import load_task, resolve_paths

_LINE_EVERY_S = 10.0  # where lines cannot be written over


def prepare_offline(config: Config) -> Config:
    """Check rules and model files and resolve paths; one actor, whatever a run has.

    Raises:
        ConfigError: a rule is broken, or the model is not there or could not run.
        TaskError: there is no such task, or it refuses its options.
    """
    rules.check_offline(config)
    path = resolve_path(config.model.path)
    check_model(path, config.task, complete=not config.dry_run)
    config = check_rewards(config)
    load_task(config.task)  # refuses its options before there is a run
    return replace(
        config,
        task=resolve_paths(config.task),
        model=replace(config.model, path=path),
        actors=replace(config.actors, count=1),
    )


def run_offline(
    job: str,
    config: Config,
    *,
    label: str,
    overrides: Sequence[str],
    directory: str = "",
    commands: Commands | None = None,
    tick: Callable[[RunDir], None] = lambda run_dir: None,
) -> tuple[Outcome, RunDir] | None:
    """Have an actor do the job; None after a dry run.

    Args:
        config: as `prepare_offline` returns it.
        label: what the run directory is named after if `run.name` is empty.
        directory: of the run; empty: below `run.dir`.
        tick: called several times a second while it goes on, and once at its end.

    Raises:
        ConfigError: the machine lacks what the configuration asks for.
        RunDirError: the directory holds a run already.
    """
    machine = read_machine()
    started_at = time.time()
    named = replace(config, experiment=job, model=replace(config.model, path=label))
    planned = machine_plan(config, machine, only="actor")
    if config.dry_run:
        shown = directory or str(Path(config.run.dir, run_name(named, started_at)))
        print(plan_text(config, planned, shown, machine.memory_total / GIB))
        return None
    run_dir = new_run_dir(named, started_at, directory)
    outcome = run_roles(
        config,
        run_dir,
        machine,
        started_at=started_at,
        overrides=overrides,
        commands=commands or role_commands(job=job),
        make_display=lambda run_dir: ProgressLine(run_dir, started_at, tick),
        only="actor",
    )
    if outcome.failure is not None:
        print_failure(outcome.failure)
    return outcome, run_dir


class ProgressLine:
    """What the actor does, on one line of a terminal, else a line now and then."""

    def __init__(self, run_dir: RunDir, started_at: float, tick: Callable[[RunDir], None]) -> None:
        self._run_dir = run_dir
        self._tick = tick
        self._watch = RoleWatch(run_dir)
        self._started_at = started_at
        self._rewrites = sys.stdout.isatty()
        self._said = ""
        self._said_at = float("-inf")
        self._state = ""

    def update(self, *, last: bool = False) -> None:
        self._tick(self._run_dir)
        now = time.time()
        for role in self._watch.read((), self._started_at, now):
            text = role.detail if role.state in ("running", "done") else role.text
            due = self._rewrites or last or role.state != self._state
            due = due or now - self._said_at >= _LINE_EVERY_S
            if not text or text == self._said or not due:
                continue
            line = f"[{now - self._started_at:5.0f} s] {text}"
            print(f"\r\x1b[K{line}" if self._rewrites else line, flush=True, end=self._end)
            self._said, self._said_at, self._state = text, now, role.state

    def close(self) -> None:
        self.update(last=True)
        if self._rewrites and self._said:
            print(flush=True)

    @property
    def _end(self) -> str:
        return "" if self._rewrites else "\n"
