"""Sorting: answers against Python's own sort, and every line of a worked solution."""

import random

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, DemonstratingTask, check_task, load_task
from async_r1.templates import is_well_formed


def task_of(**values):
    return load_task(TaskConfig(name="sorting", **{"num_train": 300, "num_eval": 60, **values}))


def numbers(text):
    return [int(word) for word in text.split() if word.isdigit()]


def test_answers_levels_and_ids():
    task = task_of()
    check_task(task)
    assert isinstance(task, DemonstratingTask)
    for prompt in task.prompts("train"):
        assert numbers(prompt.answer) == sorted(numbers(prompt.text))
        assert len(numbers(prompt.text)) == 2 * prompt.level + 2
        assert task_of(seed=4).get(prompt.prompt_id) == prompt
        assert prompt.text.isascii() and prompt.text.isprintable()
    assert {p.level for p in task.prompts("train")} == {1, 2, 3, 4, 5}


def test_splits_share_no_numbers_in_any_order():
    evals = {p.answer for p in task_of(seed=0, num_eval=2000, levels=[1]).prompts("eval")}
    for seed in (0, 1):
        train = task_of(seed=seed, num_train=5000, levels=[1]).prompts("train")
        assert evals.isdisjoint(p.answer for p in train)


@pytest.mark.parametrize(
    "answer, score",
    [("17 33 52 90", 1), ("17, 33, 52, 90", 1), ("17\n33 52 90", 1), ("90 52 33 17", 0),
     ("17 33 52", 0), ("17 33 52 90 90", 0), ("17335290", 0), ("", 0)],
)  # fmt: skip
def test_score(answer, score):
    task = task_of()
    prompt = task.get("sorting/52,17,90,33")
    assert prompt.text == "sort 52 17 90 33"
    text = f"<think></think><answer>{answer}</answer>"
    assert task.score(prompt, Completion(text, 9, truncated=False)) == score


@pytest.mark.parametrize(
    "prompt_id",
    ["", "sorting/", "sorting/52,17,90", "52,17,90,33", "sorting/52,17,90,3",
     "sorting/52, 17,90,33",
     "sorting/52,17,90,33,", "sorting/052,17,90,33", "sorting/sorting/52,17,90,33"],
)  # fmt: skip
def test_unknown_ids_are_refused(prompt_id):
    with pytest.raises(TaskError, match="no prompt"):
        task_of().get(prompt_id)


def test_careful_solutions_take_the_smallest_out():
    task, rng = task_of(), random.Random(0)
    for level in task.levels:
        for _ in range(100):
            prompt = task.draw(level, rng)
            text = task.demonstrate(prompt, "careful", rng)
            assert is_well_formed(text) and task.score(prompt, Completion(text, 9, False)) == 1.0
            left = numbers(prompt.text)
            for line in text.removeprefix("<think>\n").partition("</think>")[0].split("\n"):
                smallest, _, rest = line.partition(":")
                assert int(smallest) == min(left)
                left.remove(min(left))
                assert numbers(rest) == left
            assert left == []


@pytest.mark.parametrize("skill", [0.0, 0.8, 1.0])
def test_blunt_answers_are_right_as_often_as_configured(skill):
    task, rng = task_of(options={"blunt_skill": skill}), random.Random(0)
    right = 0
    for _ in range(1000):
        prompt = task.draw(1, rng)
        text = task.demonstrate(prompt, "blunt", rng)
        right += task.score(prompt, Completion(text, 9, truncated=False))
    assert skill**3 - 0.05 < right / 1000 < skill**3 + 0.08  # numbers may be equal


def test_unknown_style_is_refused():
    task, rng = task_of(), random.Random(0)
    with pytest.raises(TaskError, match="blunt, careful, checked"):
        task.demonstrate(task.draw(1, rng), "verbose", rng)
