"""`async_r1 launch`: one command from configuration to report."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from async_r1 import rules
from async_r1.compose import Job, compose_jobs, run_jobs
from async_r1.config import Config
from async_r1.config_dir import resolve_path
from async_r1.initial_model import make_initial_model
from async_r1.machine import read_machine
from async_r1.memory import GIB
from async_r1.model_files import check_model
from async_r1.plan_text import plan_text
from async_r1.ports import check_addresses
from async_r1.records import new_run_dir, run_name
from async_r1.rope_scaling import apply_rope_scaling
from async_r1.run_dir import RunDir
from async_r1.run_state import print_failure
from async_r1.runner import (
    Commands,
    base_environment,
    machine_plan,
    role_commands,
    run_roles,
)
from async_r1.supervisor import Outcome

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Compose and launch, one run for each job of a sweep; returns the exit code."""
    return run_jobs(compose_jobs("launch", argv, prepare), _launch_job)


def prepare(config: Config) -> Config:
    """Check all rules, resolve the model's path and check its files; what `launch` takes.

    Raises:
        ConfigError: a rule is broken, or the model is not there or could not run.
        TaskError: there is no such task, or it refuses its options.
    """
    from async_r1.rewards import check_rewards
    from async_r1.sinks import check_sinks
    from async_r1.tasks import load_task, resolve_paths

    rules.check(config)
    check_sinks(config)
    config = check_rewards(config)
    load_task(config.task)  # refuses its options before there is a run
    config = replace(config, task=resolve_paths(config.task))
    if config.model.init:
        return config
    path = resolve_path(config.model.path)
    check_model(path, config.task, complete=not config.dry_run)
    return replace(config, model=replace(config.model, path=path))


def launch(
    config: Config,
    *,
    overrides: Sequence[str] = (),
    directory: str = "",
    commands: Commands | None = None,
) -> int:
    """Train; returns the exit code.

    Args:
        config: as `prepare` returns it.
        overrides: to write down in the run directory.
        directory: of the run; empty: as `run.dir` and `run.name` say.
        commands: what starts each kind of role, before `--config`.

    Raises:
        ConfigError: the machine lacks what the configuration asks for.
        RunDirError: the directory holds a run already.
    """
    machine = read_machine()
    started_at = time.time()
    if config.dry_run:
        shown = directory or str(Path(config.run.dir, run_name(config, started_at)))
        memory_gib = machine.memory_total / GIB
        print(plan_text(config, machine_plan(config, machine), shown, memory_gib))
        return 0
    machine_plan(config, machine)  # refuses before there is a directory
    check_addresses(config.run)
    run_dir = new_run_dir(config, started_at, directory)
    if config.model.init:
        config = make_initial_model(config, run_dir, base_environment())
        check_model(config.model.path, config.task, complete=True)
    config = apply_rope_scaling(config, run_dir)
    outcome = run_roles(
        config,
        run_dir,
        machine,
        started_at=started_at,
        overrides=overrides,
        commands=commands or role_commands(),
        make_display=lambda run_dir: Progress(config, run_dir),
    )
    _conclude(run_dir, outcome)
    print(f"run: {run_dir.root}", flush=True)
    return outcome.exit_code


class Progress:
    """Console and trackers, none of which can stop a run."""

    def __init__(self, config: Config, run_dir: RunDir) -> None:
        from async_r1.console import Console
        from async_r1.sinks import make_sinks

        self._console: Console | None = Console(config, run_dir)
        self._sinks = make_sinks(config, run_dir)

    def update(self) -> None:
        if self._console is not None:
            try:
                self._console.update()
            except Exception:
                self._console = None
                log.exception("the display failed; the run goes on without it")
        for sink in self._sinks:
            sink.poll()

    def close(self) -> None:
        self.update()
        if self._console is not None:
            self._console.close()
        for sink in self._sinks:
            sink.close()


def _launch_job(job: Job) -> int:
    return launch(job.config, overrides=job.overrides, directory=job.directory)


def _conclude(run_dir: RunDir, outcome: Outcome) -> None:
    """Report, summary, and why it failed if it did."""
    from async_r1.report import write_report
    from async_r1.summary import print_summary

    try:
        write_report(run_dir)
        print_summary(run_dir)
    except Exception:  # the run has ended as it has: its exit code must say that
        log.exception("no report or summary of %s", run_dir.root)
    if outcome.failure is not None:
        print_failure(outcome.failure)
