"""Every mutant still applies, and names tests that are there; `make mutants` runs them."""

import subprocess
from pathlib import Path

import pytest

from tests.mutants.run import HERE, ROOT, read

PATCHES = sorted(HERE.glob("*.patch"))


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_mutant_applies(path: Path) -> None:
    mutant = read(path)
    assert mutant.breaks and mutant.tests
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).exists(), test
    applied = subprocess.run(
        ["git", "apply", "--check", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert applied.returncode == 0, applied.stderr


def test_there_are_mutants() -> None:
    assert len(PATCHES) >= 6
