"""Labels of a curated prompt set in place of a task's own levels."""

import json
import logging

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import check_task, load_task


def write(path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def label(prompt_id, difficulty=1, guessable=False):
    return {"prompt_id": prompt_id, "difficulty": difficulty, "pass_rate": 0.5,
            "guessable": guessable}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    rows = [{"prompt": f"q{i}?", "answer": i, "level": 40 + i % 3} for i in range(200)]
    return write(tmp_path / "data.jsonl", rows)


def task_of(data, labels, **values):
    values = {"num_train": 0, "num_eval": 1000, **values}
    return load_task(TaskConfig(name="jsonl", options={"path": data}, labels=labels, **values))


def test_labels_are_the_levels_and_guessable_prompts_do_not_train(data, tmp_path, caplog):
    plain = load_task(TaskConfig(name="jsonl", options={"path": data}, num_train=0, num_eval=1000))
    train, evals = ([p.prompt_id for p in plain.prompts(split)] for split in ("train", "eval"))
    rows = [label(prompt_id, 1 + i % 5, i % 10 == 0) for i, prompt_id in enumerate(train[:100])]
    rows += [label(evals[0], 1), label("jsonl/9999", 2)]
    labels = write(tmp_path / "labels.jsonl", rows)

    task = task_of(data, labels)
    with caplog.at_level(logging.INFO):
        prompts = task.prompts("train")
    wanted = {row["prompt_id"]: row["difficulty"] for row in rows[:100] if not row["guessable"]}
    assert {p.prompt_id: p.level for p in prompts} == wanted
    assert "90 of 102 labels train" in caplog.text
    assert "10 guessable, 1 held out, 1 unknown to the task" in caplog.text
    assert task.prompts("eval")[1:] == plain.prompts("eval")[1:]
    assert task.prompts("eval")[0].level == 1
    assert task.get(train[7]).level == 3 and plain.get(train[7]).level in (40, 41, 42)
    assert task.get(train[150]) == plain.get(train[150])  # no label
    assert task.levels == (1, 2, 3, 4, 5)
    check_task(task)

    hard = task_of(data, labels, levels=[4, 5], eval_levels=[41])
    assert {p.level for p in hard.prompts("train")} == {4, 5}
    assert {p.level for p in hard.prompts("eval")} - {1} == {41}
    few = task_of(data, labels, num_train=12).prompts("train")
    assert len(few) == 12 and {p.prompt_id for p in few} < set(wanted)
    assert [p.prompt_id for p in few] == [
        key for key in wanted if key in {p.prompt_id for p in few}
    ]


def test_what_is_held_out_never_trains_whatever_the_task(tmp_path):
    """A user's task has no rule, only its list of held-out prompts."""
    (tmp_path / "mine.py").write_text(
        """
from async_r1.tasks import Prompt
class Mine:
    name = "mine"
    def __init__(self, cfg): pass
    def prompts(self, split):
        return [self.get(str(i)) for i in (range(5) if split == "train" else range(5, 8))]
    def get(self, prompt_id): return Prompt(prompt_id, f"q {prompt_id}", "a", 0)
    def score(self, prompt, completion): return 1.0
"""
    )
    labels = write(tmp_path / "labels.jsonl", [label(str(i)) for i in range(8)])
    task = load_task(TaskConfig(name=f"{tmp_path}/mine.py:Mine", labels=labels))
    assert [p.prompt_id for p in task.prompts("train")] == list("01234")


def test_arithmetic_takes_labels_too(tmp_path):
    plain = load_task(TaskConfig(num_train=50, levels=[2, 3]))
    rows = [label(p.prompt_id, 1 + p.level % 2) for p in plain.prompts("train")]
    labels = write(tmp_path / "labels.jsonl", rows)
    task = load_task(TaskConfig(num_train=50, levels=[2], labels=labels))
    expected = [p.prompt_id for p in plain.prompts("train") if p.level == 3]
    assert [p.prompt_id for p in task.prompts("train")] == expected


@pytest.mark.parametrize(
    "row, message",
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is not an object"),
        ({"prompt_id": "a"}, "line 2 has no 'difficulty'"),
        (label("a", "hard"), "line 2 must have a text prompt_id, an integer difficulty"),
        (label(3), "line 2 must have"),
        (label("jsonl/1"), "line 2 labels jsonl/1 again"),
    ],
)
def test_bad_labels_name_their_line(data, tmp_path, row, message):
    with pytest.raises(TaskError, match=message):
        task_of(data, write(tmp_path / "labels.jsonl", [label("jsonl/1"), row]))


def test_a_missing_file_and_labels_of_nothing(data, tmp_path):
    write(tmp_path / "labels.jsonl", [label("jsonl/1")])
    with pytest.raises(TaskError, match=r"task\.labels: no such file .*did you mean labels\.jsonl"):
        task_of(data, str(tmp_path / "lables.jsonl"))
    labels = write(tmp_path / "l.jsonl", [label("jsonl/1", guessable=True), label("other/1")])
    with pytest.raises(TaskError, match="no prompt that trains; of 2 labels, left out: 1 guess"):
        task_of(data, labels).prompts("train")


def test_labels_of_another_question_are_refused(data, tmp_path):
    """A line put in front of the others moves all numbers, and with them what ids mean."""
    plain = load_task(TaskConfig(name="jsonl", options={"path": data}, num_train=0, num_eval=1000))
    prompts = plain.prompts("train")[:3]
    rows = [{**label(prompt.prompt_id), "prompt": prompt.text} for prompt in prompts]
    assert list(task_of(data, write(tmp_path / "labels.jsonl", rows)).prompts("train"))
    rows[1]["prompt"] = "something else?"
    task = task_of(data, write(tmp_path / "labels.jsonl", rows))
    with pytest.raises(TaskError, match=f"labels another question as {prompts[1].prompt_id}"):
        list(task.prompts("train"))
