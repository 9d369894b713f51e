"""Runs of `async_r1 launch` for the benchmarks, with what their processes cost."""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from async_r1.compose import compose_jobs
from async_r1.errors import AsyncR1Error, RunDirError
from async_r1.launch import launch, prepare
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.runner import role_commands
from async_r1.view import RunView

_POLL_S = 0.25


@dataclass(frozen=True)
class Costs:
    """What the rows of a run do not tell, by role.

    `cpu_s` is user and system time, as of the last look before the process was gone; `running_s`
    the time from the launch, as in the rows, until the role first said that it was running.
    """

    cpu_s: dict[str, float] = field(default_factory=dict)
    running_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    view: RunView
    costs: Costs
    overrides: tuple[str, ...]


def run(
    directory: Path,
    overrides: Sequence[str],
    *,
    commands: Mapping[str, Sequence[str]] | None = None,
    wrapper: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """Launch a run and see it to its end, unless the directory holds it already, finished.

    A run that was asked for in other words, or did not finish, is removed and made anew.

    Args:
        commands: what starts a kind of role, in place of the usual.
        wrapper: words to put before a kind of role's command.

    Raises:
        SystemExit: it was refused, or failed; the message names its directory.
    """
    kept = directory / "benchmark.json"
    starters = {**role_commands(), **(commands or {})}
    for kind, words in (wrapper or {}).items():
        starters[kind] = [*words, *starters[kind]]
    asked = json.loads(json.dumps([list(overrides), starters]))
    if kept.exists() and read_json(kept)["asked"] != asked:
        shutil.rmtree(directory)
    if not kept.exists():
        if directory.exists():
            raise SystemExit(f"error: {directory} is there, and not of this benchmark")
        directory.mkdir(parents=True)
        write_json(kept, {"asked": None})  # until it is finished
        costs = _launch(directory, [*overrides, "logging.console=quiet"], starters)
        write_json(kept, {"asked": asked, "cpu_s": costs.cpu_s, "running_s": costs.running_s})
    found = read_json(kept)
    return Run(RunView(directory), Costs(found["cpu_s"], found["running_s"]), tuple(overrides))


def _launch(directory: Path, overrides: list[str], starters: Mapping[str, Sequence[str]]) -> Costs:
    try:
        (job,) = compose_jobs("launch", overrides, prepare)
    except AsyncR1Error as error:
        raise SystemExit(f"error: the run for {directory}: {error}") from None
    with _watch(directory) as costs, _silent():
        code = launch(
            job.config, overrides=job.overrides, directory=str(directory), commands=starters
        )
    if code != 0:
        raise SystemExit(f"the run in {directory} failed (exit code {code}); see its logs")
    launched = read_json(RunDir(directory).resolved)["started_at"]
    return Costs(costs.cpu_s, {role: at - launched for role, at in costs.running_s.items()})


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The summary at a run's end is not the benchmark's."""
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        yield


@contextlib.contextmanager
def _watch(directory: Path) -> Iterator[Costs]:
    costs, ended = Costs(), threading.Event()
    thread = threading.Thread(target=_follow, args=(directory, costs, ended), daemon=True)
    thread.start()
    try:
        yield costs
    finally:
        ended.set()
        thread.join()


def _follow(directory: Path, costs: Costs, ended: threading.Event) -> None:
    """Read process times until the run ends; the launcher's are counted from now on."""
    this = psutil.Process()
    launcher = _cpu_s(this)
    while not ended.wait(_POLL_S):
        for path in RunDir(directory).roles.glob("[!.]*.json"):
            # A role that is about to start or end.
            with contextlib.suppress(psutil.Error, RunDirError, KeyError):
                _note(path.stem, read_json(path), costs)
        costs.cpu_s["launcher"] = _cpu_s(this) - launcher


def _note(role: str, said: dict[str, Any], costs: Costs) -> None:
    costs.cpu_s[role] = _cpu_s(psutil.Process(said["pid"]))
    if said["state"] == "running":
        costs.running_s.setdefault(role, said["since"])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
