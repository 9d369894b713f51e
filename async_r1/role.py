"""What every role process has in common: its resolved config, its paths, its log, its end.

A role is started as `python -m buffer|actors|learner --config RUN/config/resolved.json
[--index N]`, by the launcher or by hand on another host.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from async_r1.config import Config
from async_r1.disk import disk_full_text
from async_r1.errors import AsyncR1Error, ConfigError, TaskError
from async_r1.metrics import MetricsWriter
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.schema import build

STOPPED = 0  # exit code of a role that ended as asked
FAILED, BAD_CONFIG = 1, 2


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """All that `launch` decided, as the roles read it; `to_dict`/`build` round-trips it."""

    config: Config
    run_dir: str
    buffer_address: str
    weights_address: str
    started_at: float  # time.time() of the launch
    threads: dict[str, int] = field(default_factory=dict)  # role name -> compute threads


class Stopped(BaseException):
    """The launcher asked this role to end; not an error."""


def run_role(kind: str, body: "Callable[[Role], None]", argv: Sequence[str] | None = None) -> int:
    """Run a role from its command line to its end; returns its exit code.

    What ends it early is published as the state `failed`, so that the launcher can say why. An
    error that its message explains is logged as one line, any other with its stack.
    """
    role = Role.start(kind, argv)
    try:
        body(role)
    except Stopped:
        return STOPPED
    except Exception as error:
        text = disk_full_text(error, role.run_dir.root)
        known = bool(text) or isinstance(error, AsyncR1Error)
        role.fail(text or (str(error) if known else f"{type(error).__name__}: {error}"), not known)
        return BAD_CONFIG if isinstance(error, ConfigError | TaskError) else FAILED
    return 0


class Role:
    """This process as a part of a run."""

    def __init__(self, kind: str, index: int, resolved: Resolved) -> None:
        self.kind = kind
        self.index = index
        self.name = kind if kind == "buffer" else f"{kind}_{index:03d}"
        self.resolved = resolved
        self.config = resolved.config
        self.run_dir = RunDir(resolved.run_dir)
        self.log = logging.getLogger(kind)
        self._detail = ""

    @classmethod
    def start(cls, kind: str, argv: Sequence[str] | None = None) -> "Role":
        """Parse the role's arguments, set up its log, title and signals."""
        parser = argparse.ArgumentParser(prog=f"python -m {kind}")
        parser.add_argument("--config", required=True, type=Path, help="RUN/config/resolved.json")
        parser.add_argument("--index", type=int, default=0, help="actor index or learner rank")
        args = parser.parse_args(argv)
        role = cls(
            {"actors": "actor"}.get(kind, kind),
            args.index,
            build(Resolved, read_json(args.config)),
        )
        logging.basicConfig(
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        _set_title(f"async_r1:{role.name}")
        signal.signal(signal.SIGTERM, _raise_stopped)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the launcher, which decides
        return role

    def status(self, state: str, detail: str = "") -> None:
        """Publish what this role does or waits for: `starting`, `running`, `waiting`, `done`."""
        if detail != self._detail:
            self.log.info("%s%s", state, f": {detail}" if detail else "")
            self._detail = detail
        value = {"state": state, "detail": detail, "since": time.time(), "pid": os.getpid()}
        write_json(self.run_dir.role_file(self.name), value)

    def fail(self, text: str, with_stack: bool) -> None:
        """Publish why this role ends; a full disk may keep it from the file, not from the log."""
        self.log.error("%s", text, exc_info=with_stack)
        with contextlib.suppress(OSError):
            self.status("failed", text)

    def metrics(self, name: str = "") -> MetricsWriter:
        """Writer of this role's metric rows, or of another named stream it owns."""
        path = self.run_dir.metrics_file(name or self.name)
        return MetricsWriter(path, self.resolved.started_at)


def _raise_stopped(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def _set_title(title: str) -> None:
    import setproctitle

    setproctitle.setproctitle(title)
