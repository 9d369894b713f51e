"""`async_r1 sft`: the learner alone, on demonstrations: a cold start (R1 report, section 2.3.1)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from async_r1 import rules
from async_r1.compose import Job, compose_jobs, run_jobs
from async_r1.config import Config
from async_r1.config_dir import resolve_path
from async_r1.machine import read_machine
from async_r1.memory import GIB
from async_r1.model_files import check_model
from async_r1.plan_text import plan_text
from async_r1.records import new_run_dir, run_name
from async_r1.role_view import RoleWatch
from async_r1.run_dir import RunDir
from async_r1.run_state import print_failure
from async_r1.runner import Commands, machine_plan, role_commands, run_roles
from async_r1.supervisor import State


def main(argv: Sequence[str]) -> int:
    """Compose and fine-tune; returns the exit code."""
    return run_jobs(compose_jobs("sft", argv, prepare), _fine_tune_job)


def prepare(config: Config) -> Config:
    """Check all rules, resolve the model's path and check its files; what `fine_tune` takes.

    Raises:
        ConfigError: a rule is broken, or the model is not there or could not run.
        TaskError: there is no such task, or it refuses its options.
    """
    from async_r1.tasks import load_task, resolve_paths

    rules.check_sft(config)
    load_task(config.task)  # refuses its options before there is a run
    config = replace(config, task=resolve_paths(config.task))
    if config.model.init:
        return config
    path = resolve_path(config.model.path)
    check_model(path, config.task, complete=not config.dry_run)
    return replace(config, model=replace(config.model, path=path))


def fine_tune(
    config: Config,
    *,
    overrides: Sequence[str] = (),
    directory: str = "",
    commands: Commands | None = None,
) -> int:
    """Train through all phases of `sft.phases`; returns the exit code.

    Arguments and errors are those of `launch`.
    """
    machine = read_machine()
    started_at = time.time()
    planned = machine_plan(config, machine, only="learner")
    if config.dry_run:
        shown = directory or str(Path(config.run.dir, run_name(config, started_at)))
        print(plan_text(config, planned, shown, machine.memory_total / GIB))
        return 0
    run_dir = new_run_dir(config, started_at, directory)
    outcome = run_roles(
        config,
        run_dir,
        machine,
        started_at=started_at,
        overrides=overrides,
        commands=commands or role_commands(sft=True),
        make_display=lambda run_dir: StatusLines(run_dir, started_at),
        only="learner",
    )
    if outcome.failure is not None:
        print_failure(outcome.failure)
    print(f"run: {run_dir.root}", flush=True)
    if outcome.state is State.FINISHED:
        print(f"checkpoint: {checkpoint_dir(config, run_dir)}", flush=True)
    return outcome.exit_code


def checkpoint_dir(config: Config, run_dir: RunDir) -> Path:
    """Where the learner writes the model: a Hugging Face directory."""
    return Path(config.sft.out) if config.sft.out else run_dir.checkpoint(0) / "hf"


class StatusLines:
    """A line whenever a role does something else."""

    def __init__(self, run_dir: RunDir, started_at: float) -> None:
        self._watch = RoleWatch(run_dir)
        self._started_at = started_at
        self._said: dict[str, str] = {}

    def update(self) -> None:
        now = time.time()
        for role in self._watch.read((), self._started_at, now):
            if self._said.get(role.name) != role.text:
                self._said[role.name] = role.text
                print(f"[{now - self._started_at:5.0f} s] {role.name}: {role.text}", flush=True)

    def close(self) -> None:
        self.update()


def _fine_tune_job(job: Job) -> int:
    return fine_tune(job.config, overrides=job.overrides, directory=job.directory)
