"""Breaks the code, one patch at a time, and fails if the tests do not notice.

Each `*.patch` here starts with lines `# breaks: …` and `# tests: …`; the named tests must fail in
a copy of the tree with the patch applied, and by a failed test, not by an error in collecting them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TESTS_FAILED = 1  # pytest's exit code; 2 and up mean that they did not run
TIMEOUT_S = 600


@dataclass(frozen=True)
class Mutant:
    """One patch."""

    path: Path
    breaks: str
    tests: list[str]


def read(path: Path) -> Mutant:
    """A mutant from its file; the header must name what it breaks and the tests to run."""
    header = {}
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        key, _, value = line[2:].partition(":")
        header[key] = value.strip()
    return Mutant(path, header["breaks"], header["tests"].split())


def copy_tree(target: Path) -> None:
    """The files of the working tree that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def run_tests(tests: list[str], patch: Path | None, log: Path) -> int | str:
    """pytest's exit code in a copy of the tree with the patch, or why there is none."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory)
        copy_tree(tree)
        if patch is not None:
            command = ["git", "apply", str(patch)]
            applied = subprocess.run(command, cwd=tree, capture_output=True, text=True)
            if applied.returncode:
                return f"the patch does not apply: {applied.stderr.strip()}"
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        try:
            with log.open("w") as output:
                return subprocess.run(
                    [*command, *tests],
                    cwd=tree,
                    env={**environment, "OMP_WAIT_POLICY": "PASSIVE"},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_S,
                ).returncode
        except subprocess.TimeoutExpired:
            return f"the tests took more than {TIMEOUT_S} s"


def is_noticed(mutant: Mutant, log: Path) -> tuple[bool, str]:
    """Whether the tests fail under the patch, and what happened."""
    code = run_tests(mutant.tests, mutant.path, log)
    if code == TESTS_FAILED:
        failed = [line for line in log.read_text().splitlines() if line.startswith("FAILED")]
        return True, failed[0].split(" - ")[0] if failed else "a test failed"
    return False, code if isinstance(code, str) else f"pytest ended with {code}; see {log}"


def main() -> int:
    mutants = [read(path) for path in sorted(HERE.glob("*.patch"))]
    survivors = 0
    logs = Path(tempfile.mkdtemp(prefix="mutants-"))
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    if code := run_tests(tests, None, logs / "unpatched.log"):
        print(f"the tests fail without any patch ({code}); see {logs / 'unpatched.log'}")
        return 1
    for mutant in mutants:
        started = time.monotonic()
        noticed, how = is_noticed(mutant, logs / f"{mutant.path.stem}.log")
        survivors += not noticed
        verdict = "noticed" if noticed else "SURVIVED"
        seconds = time.monotonic() - started
        print(f"{verdict:9} {mutant.breaks:32} {seconds:5.0f} s  {how}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants noticed")
    return 1 if survivors or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
