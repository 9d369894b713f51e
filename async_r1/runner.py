"""Starts the roles of a run and sees it to its end, for every command that has some."""

import functools
import logging
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from async_r1 import guard
from async_r1.config import Config
from async_r1.disk import names_full_disk
from async_r1.gpus import parse_gpus
from async_r1.interrupts import Interrupts
from async_r1.machine import Machine
from async_r1.model_shape import model_shape
from async_r1.plan import Plan, plan
from async_r1.plan_roles import RolePlan
from async_r1.ports import free_ports
from async_r1.process import Guard, RoleProcess
from async_r1.records import write_records
from async_r1.role import Resolved
from async_r1.run_dir import RunDir
from async_r1.run_state import launcher_log, write_status
from async_r1.shares import Only
from async_r1.supervisor import Outcome, State, Supervisor

ROOT = Path(__file__).resolve().parent.parent  # of the packages, installed or not
_DISMISS_S = 10.0

log = logging.getLogger(__name__)

Commands = Mapping[str, Sequence[str]]  # kind of a role -> what starts it, before --config


class Display(Protocol):
    """What is shown while a run goes on."""

    def update(self) -> None: ...

    def close(self) -> None: ...


def role_commands(*, sft: bool = False, job: str = "") -> dict[str, list[str]]:
    """The roles of this installation; `job` is what an actor samples for outside of the loop."""
    python = [sys.executable, "-P", "-m"]  # -P: a file in the working directory shadows nothing
    return {
        "buffer": [*python, "buffer"],
        "actor": [*python, "actors", *(["--job", job] if job else [])],
        "learner": [*python, "learner", *(["--sft"] if sft else [])],
    }


def machine_plan(
    config: Config, machine: Machine, *, master_port: int = 0, only: Only = ""
) -> Plan:
    """The plan for this machine, or with the GPUs of `run.plan_for` in place of its own.

    Raises:
        ConfigError: the machine lacks what the configuration asks for.
    """
    kinds = parse_gpus(config.run.plan_for) if config.run.plan_for else machine.gpus
    listed = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    numbered = [str(index) for index in range(machine.usable_gpus)]
    usable = (listed or numbered)[: machine.usable_gpus]
    if config.run.plan_for:
        usable = [str(index) for index in range(len(kinds))]
    shape, _ = model_shape(config)
    return plan(
        config,
        machine.cores,
        gpus=usable,
        gpu=min(kinds, key=lambda gpu: gpu.memory_mib) if kinds else None,
        shape=shape,
        master_port=master_port,
        only=only,
    )


def run_roles(
    config: Config,
    run_dir: RunDir,
    machine: Machine,
    *,
    started_at: float,
    overrides: Sequence[str],
    commands: Commands,
    make_display: Callable[[RunDir], Display],
    only: Only = "",
) -> Outcome:
    """Start all roles, watch them, stop them; afterwards no process of the run is left.

    The run is over when the learner's ranks are, or without a learner the actor.

    Args:
        started_at: time.time() of the launch.

    Raises:
        ConfigError: the machine lacks what the configuration asks for.
    """
    buffer_port, weights_port, master_port = free_ports(config.run.host, 3)
    roles = machine_plan(config, machine, master_port=master_port, only=only)
    resolved = Resolved(
        config=config,
        run_dir=str(run_dir.root.resolve()),
        buffer_address=config.run.buffer_address or f"tcp://{config.run.host}:{buffer_port}",
        weights_address=config.run.weights_address or f"tcp://{config.run.host}:{weights_port}",
        started_at=started_at,
        threads=roles.threads,
    )
    outcome = Outcome(State.FAILED)
    with names_full_disk(run_dir.root):
        write_records(run_dir, resolved, overrides, machine)
        write_status(run_dir, Outcome(State.RUNNING))
        try:
            with launcher_log(run_dir), Interrupts() as interrupts:
                outcome = _supervise(run_dir, resolved, roles, commands, make_display, interrupts)
        finally:
            write_status(run_dir, outcome)
    return outcome


def _supervise(
    run_dir: RunDir,
    resolved: Resolved,
    roles: Plan,
    commands: Commands,
    make_display: Callable[[RunDir], Display],
    interrupts: Interrupts,
) -> Outcome:
    run = resolved.config.run
    token = uuid.uuid4().hex
    base = base_environment()
    decides = "learner" if any(role.kind == "learner" for role in roles.roles) else "actor"
    last_resort = Guard(token, run.stop_timeout_s, base)
    try:
        with Supervisor(run, run_dir, token) as supervisor:
            display = make_display(run_dir)
            try:
                for role in roles.roles:
                    start = functools.partial(_start, role, run_dir, commands, base, token)
                    restores = role.kind == "buffer" and resolved.config.buffer.journal
                    supervisor.add(
                        start(),
                        is_learner=role.kind == decides,
                        restart=start if restores else None,
                        times=run.buffer_restarts,
                    )
                outcome = supervisor.watch(display.update, lambda: interrupts.count)
            finally:
                display.close()
    finally:
        last_resort.dismiss(_DISMISS_S)
    if outcome.killed:
        log.warning("did not stop by themselves and were killed: %s", ", ".join(outcome.killed))
    return outcome


def _start(
    role: RolePlan, run_dir: RunDir, commands: Commands, base: Mapping[str, str], token: str
) -> RoleProcess:
    command = [*commands[role.kind], "--config", str(run_dir.resolved.resolve())]
    if role.kind != "buffer":
        command += ["--index", str(role.index)]
    process = RoleProcess(role.name, command, {**base, **role.env}, run_dir.log(role.name), token)
    log.info("started %s, process %d: %s", role.name, process.pid, " ".join(command))
    return process


def base_environment() -> dict[str, str]:
    """Of every process that the launcher starts."""
    env = {name: value for name, value in os.environ.items() if name != guard.VARIABLE}
    path = [str(ROOT), *filter(None, [env.get("PYTHONPATH")])]
    return {
        "VLLM_LOGGING_LEVEL": "WARNING",  # unless the user wants more
        **env,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # a crash in native code leaves its stack in the log
        "SPT_NOENV": "1",  # process titles must not overwrite the guard's token
    }
