"""`async_r1 launch` and `async_r1 sft`: start the roles of a run, watch them, end them.

The launcher imports no role: it starts `python -m <package>` on `RUN/config/resolved.json`.
"""

import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType

from async_r1.config import Config
from async_r1.console import Console
from async_r1.errors import AsyncR1Error, DeadlineError, PeerError, RunDirError
from async_r1.plan import Plan, RolePlan, available_cores, available_gpus, environment, make_plan
from async_r1.process import RoleProcess, RoleProcesses
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.run_records import print_plan, write_records
from async_r1.schema import to_dict
from async_r1.sinks import Sink, check_sinks, make_sinks

TICK_S = 0.2
INTERRUPTED = 130

Command = Callable[[RolePlan, Path], Sequence[str]]  # role, resolved.json -> command line


def role_command(role: RolePlan, resolved: Path) -> list[str]:
    """How a role is started; printed in the launcher's log, to start it by hand elsewhere."""
    start = [sys.executable, "-m", role.package, "--config", str(resolved)]
    return [*start, "--index", str(role.index)]


def launch(
    config: Config,
    *,
    overrides: Sequence[str] = (),
    run_dir: str = "",
    command: Command = role_command,
) -> int:
    """Train; returns the exit code (0 finished, 1 a role failed, 130 interrupted)."""
    check_sinks(config)
    plan = make_plan(
        config, num_cores=available_cores(config), num_gpus=available_gpus()
    )
    if config.dry_run:
        print_plan(config, plan)
        return 0
    code, run = _run(config, plan, overrides, run_dir, command)
    if run.metrics_file("learner").exists() or code == 0:
        _report(run)
    print(f"run: {run.root}")
    return code


def fine_tune(
    config: Config, *, overrides: Sequence[str] = (), run_dir: str = ""
) -> int:
    """Supervised fine-tuning by the learner alone; returns the exit code."""
    plan = make_plan(config, num_cores=available_cores(config), num_gpus=available_gpus())
    alone = Plan(
        roles=tuple(role for role in plan.roles if role.package == "learner"),
        num_cores=plan.num_cores,
        num_gpus=plan.num_gpus,
    )
    if config.dry_run:
        print_plan(config, alone)
        return 0

    def command(role: RolePlan, resolved: Path) -> list[str]:
        return [*role_command(role, resolved), "--sft"]

    code, run = _run(config, alone, overrides, run_dir, command)
    if code == 0:
        print(f"checkpoint: {config.sft.out or run.checkpoints / 'sft' / 'hf'}")
    else:
        print(f"run: {run.root}")
    return code


def _run(
    config: Config, plan: Plan, overrides: Sequence[str], run_dir: str, command: Command
) -> tuple[int, RunDir]:
    run = RunDir.create(run_dir or _new_run_dir(config))
    resolved = Resolved(
        config=config,
        run_dir=str(run.root.resolve()),
        buffer_address=config.run.buffer_address or _free_address(config.run.host),
        weights_address=config.run.weights_address or _free_address(config.run.host),
        started_at=time.time(),
        threads={role.name: role.threads for role in plan.roles},
    )
    write_json(run.resolved, to_dict(resolved))
    write_records(run, config, overrides)
    sinks = make_sinks(config, run)
    console = Console(config, run)
    processes = RoleProcesses()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        state = _watched(config, plan, run, processes, command, console, sinks)
    finally:
        signal.signal(signal.SIGTERM, previous)
        processes.close()
        for sink in sinks:
            sink.close()
    return state, run


def _watched(
    config: Config,
    plan: Plan,
    run: RunDir,
    processes: RoleProcesses,
    command: Command,
    console: Console,
    sinks: list[Sink],
) -> int:
    failure: _Failure | None = None
    state, code = "finished", 0
    write_json(run.status, {"state": "running"})
    try:
        master_port = int(_free_address(config.run.host).rpartition(":")[2])
        for role in plan.roles:
            values = environment(role, plan, config, master_port)
            processes.start(role.name, command(role, run.resolved), values, run.log(role.name))
        watch = _Watch(config, run, processes)
        while not watch.over():
            time.sleep(TICK_S)
            console.update()
            for sink in sinks:
                sink.poll()
    except _Failure as error:
        failure, state, code = error, "failed", 1
    except KeyboardInterrupt:
        state, code = "interrupted", INTERRUPTED
    finally:
        processes.stop(config.run.stop_timeout_s)
        console.update()
        console.close()
    if failure is not None:
        failure.show()
    write_json(run.status, {"state": state, **(failure.record if failure else {})})
    return code


class _Failure(Exception):
    """The first role that failed."""

    def __init__(self, role: RoleProcess, error: AsyncR1Error) -> None:
        super().__init__(str(error))
        self._role = role
        self._tail = role.tail()
        self.record = {"role": role.name, "error": str(error), "log": str(role.log)}

    def show(self) -> None:
        print(f"error: {self}; the end of {self._role.log}:", file=sys.stderr)
        for line in self._tail:
            print(f"  | {line}", file=sys.stderr)


class _Watch:
    """Looks at the roles until the run is over."""

    def __init__(self, config: Config, run: RunDir, processes: RoleProcesses) -> None:
        self._config = config
        self._run = run
        self._processes = processes
        self._started_at = time.monotonic()
        self._starting = {role.name for role in processes.roles}
        self._learner_done_at: float | None = None

    def over(self) -> bool:
        """Whether every role has ended as it should.

        Raises:
            _Failure: a role ended otherwise, or did not start in time.
        """
        for role in sorted(self._processes.roles, key=lambda role: role.exit_code() or 0):
            code = role.exit_code()
            if code is None:
                self._check_start(role)
            elif code != 0:
                raise _Failure(role, PeerError(f"{role.name} failed ({role.exit_text()})"))
            elif self._state(role) != "done":
                raise _Failure(role, PeerError(f"{role.name} ended before the run did"))
        running = self._processes.running()
        if any(role.name.startswith("learner") for role in running):
            return False
        if self._learner_done_at is None:
            self._learner_done_at = time.monotonic()
        waited = time.monotonic() - self._learner_done_at
        return not running or waited > self._config.run.stop_timeout_s

    def _check_start(self, role: RoleProcess) -> None:
        if role.name not in self._starting:
            return
        if self._state(role) not in ("", "starting"):
            self._starting.remove(role.name)
        elif time.monotonic() - self._started_at > self._config.run.start_timeout_s:
            limit = self._config.run.start_timeout_s
            raise _Failure(
                role, DeadlineError(f"{role.name} did not start within {limit:g} s")
            )

    def _state(self, role: RoleProcess) -> str:
        try:
            return str(read_json(self._run.role_file(role.name))["state"])
        except RunDirError:
            return ""


def _report(run: RunDir) -> None:
    """The page and the table at the end; neither can make a finished run fail."""
    from async_r1.report import write_report
    from async_r1.summary import print_summary

    try:
        write_report(run)
        print_summary(run)
    except (AsyncR1Error, OSError, ValueError, KeyError) as error:
        print(f"warning: no report: {error}", file=sys.stderr)


def _new_run_dir(config: Config) -> Path:
    name = config.run.name
    if not name:
        parts = [config.experiment, Path(config.model.path).name or config.model.init]
        stem = "-".join(part for part in parts if part) or "run"
        name = f"{stem}-{datetime.now():%y%m%d-%H%M%S}"
    return Path(config.run.dir) / name


def _free_address(host: str) -> str:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"tcp://{host}:{probe.getsockname()[1]}"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
