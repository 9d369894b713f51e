"""The benchmarks are scripts beside each other: a test imports one as the script would."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = (
    "actor_throughput",
    "async_vs_sync",
    "buffer_ingest",
    "buffer_load",
    "buffer_sample",
    "curricula",
    "curriculum_sample",
    "curriculum_toy",
    "gpu_loop",
    "journal_stores",
    "lease_order",
    "long_tail",
    "versus_trl",
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of the folder by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Runs a script's `main` with --json; the object that its last line holds."""

    def call(module: ModuleType, *arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [module.__name__, "--json", *arguments])
        assert module.main() == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out.rstrip().splitlines()[-1])
        return result

    return call
