"""A run whose reward function raises, hangs and crashes: it ends, and every failure is counted."""

import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from async_r1.config import Config
from async_r1.config_task import TaskConfig
from async_r1.run_dir import RunDir
from async_r1.tasks import load_task
from async_r1.wire import Message
from buffer.curriculum import make_curriculum
from buffer.journal import read_journal
from tests.integration.runs import launch, rows
from tests.integration.test_sync import untimed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FUNCTION = """
import os
import time
import zlib


def score(data_source, solution_str, ground_truth, extra_info, hangs, crashes):
    code = zlib.crc32(solution_str.encode())
    if extra_info["prompt_id"] == hangs:
        time.sleep(1000)
    if extra_info["prompt_id"] == crashes:
        os._exit(3)
    if code % 5 == 0:
        raise ValueError(f"cannot read {solution_str!r}")
    return code % 7 / 6
"""


def expected(prompt_id: str, text: str, hangs: str, crashes: str) -> tuple[str, float]:
    """The beginning of the error, or the reward."""
    code = zlib.crc32(text.encode())
    if prompt_id == hangs:
        return "took more than 1 s", 0.0
    if prompt_id == crashes:
        return "ProcessDied: the scoring process ended: exit code 3", 0.0
    if code % 5 == 0:
        return "ValueError: cannot read ", 0.0
    return "", code % 7 / 6


class Run:
    """What a run left behind."""

    def __init__(self, run: RunDir, hangs: str, crashes: str) -> None:
        self.run = run
        self.hangs, self.crashes = hangs, crashes
        self.journal: list[Message] = list(read_journal(run.journal))
        self.prompt_of: dict[int, str] = {}
        self.members: dict[int, list[int]] = {}
        self.scores: dict[int, dict[str, Any]] = {}
        self.counted: Counter[str] = Counter()  # until the last row of the buffer
        counts: Counter[str] = Counter()
        for message in self.journal:
            values = message.values
            if message.kind == "group_opened":
                self.members[values["group_id"]] = values["rollout_ids"]
                self.prompt_of |= dict.fromkeys(values["rollout_ids"], values["prompt_id"])
            elif message.kind == "score":
                self.scores[values["rollout_id"]] = values
                error = values.get("error", "")
                counts["reward/errors"] += bool(error)
                counts["reward/timeouts"] += error.startswith("took more than")
            elif message.kind == "step_done":
                self.counted = counts.copy()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("reward_function")
    (directory / "bad.py").write_text(FUNCTION)
    task = load_task(TaskConfig(levels=[2, 3], num_train=256, num_eval=16, max_new_tokens=64))
    prompts = task.prompts("train")
    curriculum = make_curriculum(Config(), prompts)
    first = [prompts[index].prompt_id for index in curriculum.sample(3, 0)]
    done = launch(
        directory,
        "experiment=smoke",
        "reward.function=bad.py:score",
        f"+reward.function_options.hangs='{first[1]}'",
        f"+reward.function_options.crashes='{first[2]}'",
        "reward.timeout_s=1",
        "eval.timeout_s=100",
    )
    return Run(done, first[1], first[2])


def test_every_score_is_what_the_function_said(run: Run) -> None:
    kinds: Counter[str] = Counter()
    for rollout_id, values in run.scores.items():
        error, reward = expected(run.prompt_of[rollout_id], values["text"], run.hangs, run.crashes)
        got = values.get("error", "")
        assert got.startswith(error) and bool(got) == bool(error), (error, got)
        kinds[error.split()[0] if error else ""] += 1
        if not error:
            assert values["rewards"]["task"] == values["rewards"]["accuracy"] == reward
        else:
            assert values["rewards"] == {}
    assert kinds["took"] == kinds["ProcessDied:"] == 4  # the group's members, no more
    assert kinds["ValueError:"] > 3 and kinds[""] > 40


def test_the_counts_are_exact(run: Run) -> None:
    buffer = rows(run.run, "buffer")
    for name, count in run.counted.items():
        assert sum(row[name] for row in buffer) == count, name
    assert run.counted["reward/timeouts"] == 4
    replaced = rows(run.run, "actor_000")[-1]["scores/processes_replaced"]
    assert replaced >= 8
    assert [row["step"] for row in rows(run.run, "learner")] == [1, 2, 3, 4]


def test_failed_members_do_not_train_and_the_others_do(run: Run) -> None:
    draws = [message.values for message in run.journal if message.kind == "draw"]
    for draw, row in zip(draws, rows(run.run, "learner"), strict=True):
        num_rollouts = 0
        for group_id in draw["group_ids"]:
            scored = [run.scores[member] for member in run.members[group_id]]
            num_scored = sum(not values.get("error") for values in scored)
            assert num_scored >= 2
            num_rollouts += num_scored
        assert row["batch/num_rollouts"] == num_rollouts
    drawn = {group_id for draw in draws for group_id in draw["group_ids"]}
    partial = [
        group_id
        for group_id in drawn
        if any(run.scores[member].get("error") for member in run.members[group_id])
    ]
    assert partial, "no group trained without one of its members"


def test_people_are_told(run: Run) -> None:
    log = (run.run.root / "logs" / "buffer.log").read_text()
    by_kind = defaultdict(int)
    for line in log.splitlines():
        if "no reward for rollout" in line:
            by_kind[line.split(": ")[2].split()[0]] += 1
    assert by_kind["took"] == 1 and by_kind["ProcessDied"] == 1
    assert f"prompt {run.hangs}" in log and f"prompt {run.crashes}" in log
    texts = [path.read_text() for path in sorted((run.run.root / "rollouts").iterdir())]
    assert any('"reward error"' in text and "took more than 1 s" in text for text in texts)
    assert (run.run.root / "report.html").exists()


def test_evals_count_it_as_wrong(run: Run) -> None:
    evals = rows(run.run, "eval")
    assert evals and all(row["eval/num_prompts"] == 16 for row in evals)
    assert all(0 <= row["eval/reward_errors"] <= 16 for row in evals)
    assert sum(row["eval/reward_errors"] for row in evals) > 0


def test_no_process_is_left(run: Run) -> None:
    directory = str(run.run.root.parent)
    left = []
    for process in psutil.process_iter():
        try:
            left += [process.cmdline()] if process.cwd() == directory else []
        except psutil.Error:
            continue
    assert left == []


def test_a_function_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"reward\.function: no such file"):
        launch(tmp_path, "experiment=smoke", "reward.function=gone.py:score")
    assert not (tmp_path / "run").exists()


LATE = """
import random
import time
import zlib


def score(data_source, solution_str, ground_truth, extra_info):
    time.sleep(random.random() / 20)  # another time in every run
    code = zlib.crc32(solution_str.encode())
    if code % 5 == 0:
        raise ValueError("cannot read it")
    return code % 7 / 6
"""


def test_sync_mode_does_not_depend_on_how_long_scores_take(tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "late.py").write_text(LATE)
        overrides = ["experiment=smoke", "staleness=sync", "reward.function=late.py:score"]
        run = launch(directory, *overrides, "reward.workers=2", "learner.num_updates=3")
        records.append({name: untimed(rows(run, name)) for name in ("learner", "eval")})
    assert len(records[0]["learner"]) == 3 and records[0]["eval"]
    assert sum(row["eval/reward_errors"] for row in records[0]["eval"]) > 0
    assert records[0] == records[1]
