"""Many actors at one buffer process: the bound is kept, nobody starves, memory stays flat.

`benchmarks/buffer_load.py` plays them; the small version of seconds runs everywhere.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def load(timeout: float, **options: int | str) -> dict[str, Any]:
    """The last line of the benchmark."""
    command = [sys.executable, "benchmarks/buffer_load.py", "--json"]
    command += [f"--{name}={value}" for name, value in options.items()]
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=timeout,
        capture_output=True,
        text=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def check(result: dict[str, Any], eta: int) -> None:
    assert 0 < result["max_staleness"] <= eta
    assert result["suspended"] > 0
    # An eligible suspended rollout goes before all that is younger, so no group is admitted while
    # it waits; those that are can feed the learner for eta versions at most (architecture.md).
    assert result["max_wait_versions"] <= eta + 1
    assert 0 < result["max_wait_leases"] <= result["wait_leases_bound"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("overdue", ["mask", "wait", "drop"])
def test_sixty_actors(overdue: str) -> None:
    result = load(
        100, actors=60, slots=1, groups=4, versions=40, median=256, top=16384, segment=512,
        budget=512, eta=2, overdue=overdue,
    )  # fmt: skip
    check(result, eta=2)
    assert (result["masked_frac"] > 0) == (overdue == "mask")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_actors_with_rollouts_of_up_to_128k_tokens() -> None:
    result = load(1700, actors=1000, versions=300, budget=8192)
    check(result, eta=4)
    assert result["longest_rollout"] == 131_072
    assert result["rss_ratio"] < 1.1
