"""What a user can get wrong, met by a real run: one line that names it, and the right exit code."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

PLAIN = ("task.template=plain", "task.levels=[]", "task.max_new_tokens=32")


def failure(directory: Path, *overrides: str) -> tuple[int, str]:
    """Exit code and last line of standard error of a smoke run in `directory`."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "async_r1", "launch", "experiment=smoke"),
            *("logging.console=quiet", f"run.dir={directory}", "run.name=run", *overrides),
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


def prompts(directory: Path, *texts: str) -> list[str]:
    """Overrides for a task of these prompts."""
    rows = [{"prompt": text, "answer": "1"} for text in texts]
    path = directory / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["task=jsonl", f"task.options.path={path}", "task.options.eval_frac=0.4", *PLAIN]


def test_a_task_without_prompts(tmp_path: Path) -> None:
    code, last = failure(tmp_path, *prompts(tmp_path))
    assert code == 2
    assert last.startswith("error: buffer failed: ") and "no prompt" in last


def test_a_prompt_longer_than_the_context(tmp_path: Path) -> None:
    texts = [f"{number} + 1 =" for number in range(40)] + ["9" * 500]
    code, last = failure(tmp_path, *prompts(tmp_path, *texts), "model.max_length=128")
    assert code == 2
    assert "actor_000 failed: model.max_length must be > 50" in last
    assert "the length of prompt jsonl/41 under task.template=plain, got 128" in last


@pytest.mark.parametrize(
    ("value", "named"),
    [("float('nan')", "accuracy must be finite"), ("'right'", "'right'")],
)
def test_a_reward_that_is_no_number(tmp_path: Path, value: str, named: str) -> None:
    (tmp_path / "reward.py").write_text(f"def score(**_):\n    return {value}\n")
    code, last = failure(
        tmp_path,
        f"reward.function={tmp_path / 'reward.py'}:score",
        "buffer.max_unusable_publishes=1",
        "eval.every=0",
    )
    assert code == 1
    assert "no usable group" in last and "the last reward error: " in last and named in last, last


@pytest.mark.parametrize(
    ("size", "named"), [("2m", "learner_000 failed: "), ("200k", "")], ids=["checkpoint", "at once"]
)
def test_a_disk_without_space(tmp_path: Path, size: str, named: str) -> None:
    """A real one: a memory file system in a namespace of its own."""
    small = tmp_path / "small"
    small.mkdir()
    launch = [*(sys.executable, "-m", "async_r1", "launch", "experiment=smoke"),
              *("logging.console=quiet", f"run.dir={small}", "run.name=run")]  # fmt: skip
    mount = f"mount -t tmpfs -o size={size} none {small} && exec {shlex.join(launch)}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {named}") and f"no space left on the disk of {small}" in last
    assert "Traceback" not in last
