"""Every path of a run; machine-written files are JSON, hand-written ones YAML.

RUN/config/{resolved.json,config.yaml,overrides.yaml}   what the roles read; what was asked
RUN/logs/{launcher,buffer,actor_000,learner_000}.log
RUN/metrics/{learner,buffer,actor_000,eval}.jsonl       one row per step or tick
RUN/roles/<role>.json                                   what the role does or waits for now
RUN/rollouts/step_000040.jsonl                          best, worst and telling rollouts of a step
RUN/checkpoints/version_000100/{hf/,COMPLETE}
RUN/journal/                                            what happened to the buffer
RUN/status.json  RUN/report.html  RUN/env.json
"""

import json
import os
from pathlib import Path
from typing import Any

from async_r1.errors import RunDirError


class RunDir:
    """Paths below one run directory; makes none of them until asked."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    @classmethod
    def create(cls, root: str | os.PathLike[str]) -> "RunDir":
        """Make the directory tree of a new run.

        Raises:
            RunDirError: it holds a run already; the message gives the ways out.
        """
        run = cls(root)
        if run.resolved.exists():
            raise RunDirError(
                f"{run.root} already holds a run; choose another run.name, leave run.name out "
                f"for a fresh one, or remove the directory"
            )
        for path in (run.config, run.logs, run.metrics, run.roles, run.rollouts, run.checkpoints):
            path.mkdir(parents=True, exist_ok=True)
        return run

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def resolved(self) -> Path:
        return self.config / "resolved.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def roles(self) -> Path:
        return self.root / "roles"

    @property
    def rollouts(self) -> Path:
        return self.root / "rollouts"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def environment(self) -> Path:
        return self.root / "env.json"

    def log(self, role: str) -> Path:
        return self.logs / f"{role}.log"

    def metrics_file(self, name: str) -> Path:
        return self.metrics / f"{name}.jsonl"

    def role_file(self, role: str) -> Path:
        return self.roles / f"{role}.json"

    def rollouts_file(self, step: int) -> Path:
        return self.rollouts / f"step_{step:06d}.jsonl"

    def checkpoint(self, version: int) -> Path:
        return self.checkpoints / f"version_{version:06d}"


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file written by `write_json`.

    Raises:
        RunDirError: the file is absent or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunDirError(f"cannot read {path}: {error}") from None
