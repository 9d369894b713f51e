"""The demo's bars in three of three seeds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def test_three_seeds_learn_asynchronously_within_the_bound(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    subprocess.run(
        [sys.executable, "benchmarks/demo_seeds.py", "--runs", str(tmp_path), "--json", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=1700,
    )
    report = json.loads(out.read_text())
    assert len(report["seeds"]) == 3
    for result in report["seeds"]:
        assert result["last"] - result["first"] >= 0.40
        assert result["last_unseen"] > report["careful_unseen"]
        assert result["staleness_mean"] > 0.3
        assert result["three_versions_frac"] >= 0.25
        assert result["actor_idle_frac"] < 0.20
        assert result["bound_kept"] is True
        assert result["wall_s"] < 300
