"""What the launcher says about a run as a whole: status.json, its log, the first failure."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from async_r1.run_dir import RunDir, write_json
from async_r1.supervisor import Failure, Outcome


def write_status(run_dir: RunDir, outcome: Outcome) -> None:
    """Write status.json: the state, and the first failure if there is one."""
    value: dict[str, Any] = {
        "state": outcome.state.value,
        "since": time.time(),
        "pid": os.getpid(),
    }
    if outcome.failure is not None:
        process = outcome.failure.process
        value |= {
            "role": process.name,
            "error": str(outcome.failure.error),
            "log": str(process.log),
            "followers": [follower.name for follower in outcome.failure.followers],
        }
    write_json(run_dir.status, value)


@contextlib.contextmanager
def launcher_log(run_dir: RunDir) -> Iterator[None]:
    """The launcher's own log; warnings also go to the terminal."""
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    to_file = logging.FileHandler(run_dir.log("launcher"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setLevel(logging.WARNING)
    to_file.setFormatter(form)
    ours = logging.getLogger("async_r1")
    level = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(to_file)
    ours.addHandler(to_terminal)
    try:
        yield
    finally:
        ours.removeHandler(to_file)
        ours.removeHandler(to_terminal)
        ours.setLevel(level)
        to_file.close()


def print_failure(failure: Failure) -> None:
    """The first failure with the end of its log, to standard error."""
    process = failure.process
    lines = [f"--- the end of {_shown(process.log)}", *process.tail(), "---"]
    lines += [
        f"then {follower.name} failed too: {follower.exit_text}; log: {_shown(follower.log)}"
        for follower in failure.followers
    ]
    lines.append(f"error: {failure.error}; log: {_shown(process.log)}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
