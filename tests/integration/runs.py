"""Real runs through the command line, and what they leave behind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from async_r1.metric_catalog import find_metric
from async_r1.metrics import read_rows
from async_r1.run_dir import RunDir

ROOT = Path(__file__).parents[2]


def launch(directory: Path, *overrides: str, timeout_s: float = 280.0) -> RunDir:
    """Run `async_r1 launch` to its end; a failure shows what it printed."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "async_r1", "launch", "logging.console=plain"),
            *(f"run.dir={directory}", "run.name=run", *overrides),
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert result.stdout.rstrip().splitlines()[-1] == f"run: {directory / 'run'}"
    run = RunDir(directory / "run")
    assert undocumented(run) == set()
    return run


def undocumented(run: RunDir) -> set[str]:
    """Metrics of a run that the catalogue, and with it docs/metrics.md, does not know."""
    names = {
        name for path in run.metrics.glob("*.jsonl") for row in read_rows(path) for name in row
    }
    return {name for name in names if find_metric(name) is None}


def rows(run: RunDir, name: str) -> list[dict[str, Any]]:
    return read_rows(run.metrics_file(name))
