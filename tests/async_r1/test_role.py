"""A role's end: exit code, published state, log; each in a real process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from async_r1.config import Config
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, read_json, write_json
from async_r1.schema import build, to_dict

ROOT = Path(__file__).parents[2]
ROLE = """
import errno, os, sys
from async_r1.errors import ConfigError, PeerError
from async_r1.role import Stopped, run_role

def body(role):
    role.status("running")
    {body}
    role.status("done")

sys.exit(run_role("buffer", body))
"""


def run_role(root: Path, body: str) -> tuple[int, dict[str, str], str]:
    """Exit code, role file and log of a role that does `body`."""
    run = RunDir.create(root)
    config = build(Config, {})
    resolved = Resolved(
        config=config, run_dir=str(root), buffer_address="", weights_address="", started_at=0.0
    )
    write_json(run.resolved, to_dict(resolved))
    done = subprocess.run(
        [sys.executable, "-c", ROLE.format(body=body), "--config", str(run.resolved)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, read_json(run.role_file("buffer")), done.stderr


@pytest.mark.parametrize(
    ("body", "code", "state", "detail", "has_stack"),
    [
        ("pass", 0, "done", "", False),
        ("raise Stopped", 0, "running", "", False),
        ("raise ConfigError('a.b must be > 0, got 0')", 2, "failed", "a.b must be > 0", False),
        ("raise PeerError('learner left')", 1, "failed", "learner left", False),
        ("[][1]", 1, "failed", "IndexError: list index out of range", True),
        (
            "open('/dev/full', 'w', 1).write('x\\n')",
            1,
            "failed",
            "no space left on the disk",
            False,
        ),
        (
            "open('/nowhere/x')",
            1,
            "failed",
            "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/x'",
            True,
        ),
    ],
)
def test_how_it_ends(
    tmp_path: Path, body: str, code: int, state: str, detail: str, has_stack: bool
) -> None:
    ended, role_file, log = run_role(tmp_path / "run", body)
    assert (ended, role_file["state"]) == (code, state)
    assert detail in role_file["detail"] and detail in log
    assert ("Traceback" in log) == has_stack
