"""What a run writes down about itself before it starts: directory, configuration, environment."""

import dataclasses
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from async_r1.config import Config
from async_r1.errors import RunDirError
from async_r1.machine import Machine
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, write_json
from async_r1.schema import to_dict

_GIT_TIMEOUT_S = 10.0
_MAX_SAME_SECOND = 100


def run_name(config: Config, now: float) -> str:
    """`run.name`, or `<experiment>-<model>-<time>`."""
    model = Path(config.model.path).name or config.model.init
    started = time.strftime("%y%m%d-%H%M%S", time.localtime(now))
    return config.run.name or "-".join(filter(None, (config.experiment, model, started)))


def new_run_dir(config: Config, now: float, directory: str = "") -> RunDir:
    """Make the directory of a run.

    Args:
        directory: of a sweep's job; empty: below `run.dir`.

    Raises:
        RunDirError: it holds a run already, or cannot be made.
    """
    root = Path(directory or Path(config.run.dir, run_name(config, now)))
    try:
        if directory or config.run.name:
            return RunDir.create(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        return RunDir.create(_unused(root))
    except RunDirError:
        raise
    except OSError as error:
        raise RunDirError(f"cannot make the run directory {root}: {error.strerror}") from None


def write_records(
    run_dir: RunDir, resolved: Resolved, overrides: Sequence[str], machine: Machine
) -> None:
    """Write config/{resolved.json,config.yaml,overrides.yaml} env.json and code.diff."""
    from omegaconf import OmegaConf

    OmegaConf.save(to_dict(resolved.config), run_dir.config / "config.yaml")
    OmegaConf.save(list(overrides), run_dir.config / "overrides.yaml")
    write_json(run_dir.environment, environment(machine))
    (run_dir.root / "code.diff").write_text(_git("diff", "HEAD") or "")
    write_json(run_dir.resolved, to_dict(resolved))


def environment(machine: Machine) -> dict[str, Any]:
    """Versions, hardware and git revision, for a later reader of the run."""
    facts = dataclasses.asdict(machine)
    return {
        "argv": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
        "cores": machine.cores,
        "git_revision": _git("rev-parse", "HEAD"),
        **{name: facts[name] for name in ("python", "versions", "torch_build", "gpus")},
        "memory_total": machine.memory_total,
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout that this code runs from; None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _unused(root: Path) -> Path:
    """`root`, or with -2, -3, ... behind: runs may start in the same second. Makes it."""
    for number in range(1, _MAX_SAME_SECOND):
        path = root if number == 1 else root.with_name(f"{root.name}-{number}")
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        return path
    raise RunDirError(f"{root} and {_MAX_SAME_SECOND - 2} more like it exist; set run.name")
