"""`async_r1 eval` and `async_r1 curate` as a user starts, stops and repeats them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from async_r1.config_task import TaskConfig
from async_r1.curate_labels import difficulty
from async_r1.metrics import read_rows
from async_r1.run_dir import read_json
from async_r1.tasks import load_task
from tests.integration.runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
NANO = "configs:checkpoints/nano"
TASK = ("task.levels=[1,2]", "actors.max_concurrent=32")


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "async_r1", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, out[-2000:] + err[-4000:]
    return out


def evaluate(directory: Path, *overrides: str) -> str:
    options = ("task.num_eval=10", "evaluate.samples=3", "evaluate.k=[1,3]")
    return finish(start(directory, "eval", NANO, *TASK, *options, *overrides))


def test_two_evaluations_with_one_seed_are_the_same(tmp_path: Path) -> None:
    for name in ("first", "second"):
        out = evaluate(tmp_path, f"evaluate.out={name}")
    first, second = ((tmp_path / name / "eval.json").read_text() for name in ("first", "second"))
    assert first == second
    rows = [read_rows(tmp_path / name / "samples.jsonl") for name in ("first", "second")]
    assert rows[0] == rows[1]
    assert len({row["text"] for row in rows[0] if row["kind"] == "sample"}) > 20  # not one seed
    found = json.loads(first)
    assert out.splitlines()[-1] == "run: second" and "pass@3" in out
    assert "40 of 40 completions" in out

    # Recomputed from the completions: each answer against its question.
    task = load_task(TaskConfig(levels=[1, 2], num_eval=10, options={"layout": "table"}))
    answers = {prompt.prompt_id: prompt.answer for prompt in task.prompts("eval")}
    solved = defaultdict(list)
    for row in rows[0]:
        right = f"<answer>{answers[row['prompt_id']]}</answer>" in row["text"]
        assert row["correct"] is right
        solved[row["prompt_id"], row["kind"]].append(right)
    assert len(answers) == found["overall"]["prompts"] == 10
    any_of_3 = [any(solved[prompt, "sample"]) for prompt in answers]
    assert found["overall"]["pass@k"]["3"]["value"] == pytest.approx(sum(any_of_3) / 10)
    each = [sum(solved[prompt, "sample"]) / 3 for prompt in answers]
    assert found["overall"]["pass@k"]["1"]["value"] == pytest.approx(sum(each) / 10)


def test_labels_follow_from_the_completions_and_a_killed_call_goes_on(tmp_path: Path) -> None:
    arguments = ["curate", *TASK, "task.num_train=40", "curate.samples=6", "curate.guesses=2"]
    arguments += ["curate.out=labels.jsonl"]
    samples, out = tmp_path / "labels.samples.jsonl", tmp_path / "labels.jsonl"
    process = start(tmp_path, *arguments, "run.name=killed")
    deadline = time.monotonic() + 120
    while len(read_rows(samples)) < 30:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    pid = read_json(tmp_path / "runs" / "killed" / "roles" / "actor_000.json")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert "run it again to go on" in finish(process, 1)
    kept = read_rows(samples)
    assert 30 <= len(kept) < 320

    printed = finish(start(tmp_path, *arguments, "run.name=resumed"))
    rows = read_rows(samples)
    assert rows[: len(kept)] == kept and len(rows) == 40 * 8
    assert len({(row["prompt_id"], row["kind"], row["index"]) for row in rows}) == 40 * 8
    assert f"{len(kept)} of 320 completions" in printed and "guessable" in printed

    labels = read_rows(out)
    task = load_task(TaskConfig(levels=[1, 2], num_train=40, options={"layout": "table"}))
    assert [label["prompt_id"] for label in labels] == [p.prompt_id for p in task.prompts("train")]
    by_prompt: Any = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_prompt[row["prompt_id"]][row["kind"]].append(row)
        if row["kind"] == "guess":
            assert row["text"].startswith("<think></think><answer>")
    for label in labels:
        found: dict[str, Any] = by_prompt[label["prompt_id"]]
        right = [f"<answer>{label['answer']}</answer>" in row["text"] for row in found["sample"]]
        assert label["pass_rate"] == pytest.approx(sum(right) / 6)
        assert label["difficulty"] == difficulty(sum(right), 6, 5)
        guessed = [f"<answer>{label['answer']}</answer>" in row["text"] for row in found["guess"]]
        assert (label["guesses_right"], label["guessable"]) == (sum(guessed), any(guessed))
    assert len({label["difficulty"] for label in labels}) > 2

    again = start(tmp_path, *arguments, "curate.samples=7")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 2 and "has labels made with curate.samples=6" in err


def test_ctrl_c_leaves_the_completions_so_far(tmp_path: Path) -> None:
    process = start(tmp_path, "eval", NANO, *TASK, "task.num_eval=2000", "evaluate.out=here")
    samples = tmp_path / "here" / "samples.jsonl"
    deadline = time.monotonic() + 120
    while not read_rows(samples):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out = finish(process, 130)
    assert f"completions so far: {Path('here') / 'samples.jsonl'}" in out
    assert not (tmp_path / "here" / "eval.json").exists()
