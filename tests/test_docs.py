"""The reference pages are what the schema and the catalogue say; links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from async_r1.metric_catalog import STREAMS, all_metrics, find_metric

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_reference_pages_are_up_to_date() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_and_families_are_found() -> None:
    assert len({metric.name for metric in all_metrics()}) == len(list(all_metrics()))
    for name, expected in [
        ("reward/mean", "reward/mean"),
        ("accuracy/level_12", "accuracy/level_<level>"),
        ("completion_length/p90", "completion_length/<stat>"),
        ("completion_length/clip_frac", "completion_length/clip_frac"),
    ]:
        metric = find_metric(name)
        assert metric is not None and metric.name == expected
    assert find_metric("reward/nonsense/x/y") is None
    assert set(STREAMS) >= {"learner.jsonl", "buffer.jsonl", "eval.jsonl"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_tree_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_metric_of_the_catalogue_is_written_somewhere() -> None:
    """By its name in the source, or by the part of a family that does not vary."""
    sources = [
        path.read_text()
        for package in ("async_r1", "actors", "buffer", "learner")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "metric_catalog.py"
    ]
    source = "\n".join(sources)
    made = {"loss/drift": 'penalty_name: ClassVar[str] = "drift"',
            "loss/kl": 'penalty_name: ClassVar[str] = "kl"',
            "completion_length/<stat>": 'summary("completion_length"'}  # fmt: skip
    for metric in all_metrics():
        fixed = made.get(metric.name) or f'"{metric.name.partition("<")[0]}'
        assert fixed in source, f"{metric.name}: nothing writes it"
