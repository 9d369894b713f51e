"""The task jsonl: every line is a prompt or is reported, and splits share no question."""

import json
import logging
import time

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import TaskError
from async_r1.tasks import Completion, check_task, load_task

GOOD = {"prompt": "1 + 1 = ?", "answer": 2, "level": 3, "source": "book"}


def write(path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
    return str(path)


def task_of(path, *, levels=(), eval_levels=(), num_train=0, num_eval=1000, seed=0, **options):
    cfg = TaskConfig(
        name="jsonl",
        levels=list(levels),
        eval_levels=list(eval_levels),
        num_train=num_train,
        num_eval=num_eval,
        seed=seed,
        options={"path": path, **options},
    )
    return load_task(cfg)


def questions(count, start=0):
    return [
        {"prompt": f"q{i}?", "answer": str(i), "level": i % 3} for i in range(start, start + count)
    ]


def failure(path, **values) -> str:
    with pytest.raises(TaskError) as caught:
        task_of(path, **values).prompts("train")
    (line,) = str(caught.value).splitlines()
    return line


# --- prompts


def test_fields_become_a_prompt_and_the_rest_is_extra(tmp_path):
    path = write(tmp_path / "a.jsonl", ["", GOOD, "  ", {"prompt": "2?", "answer": " b "}])
    first, second = task_of(path, eval_frac=0).prompts("train")
    assert (first.prompt_id, first.text, first.answer, first.level, dict(first.extra)) == (
        *("jsonl/2", "1 + 1 = ?", "2", 3),
        {"source": "book"},
    )
    assert (second.prompt_id, second.answer, second.level) == ("jsonl/4", "b", 0)


def test_field_names_ids_and_the_answer_inside_a_field(tmp_path):
    row = {"q": "1?", "solution": "so\n#### 1,234", "hard": "Level 5", "uid": "x-1"}
    path = write(tmp_path / "a.jsonl", [row])
    options = {"prompt_key": "q", "answer_key": "solution", "level_key": "hard", "id_key": "uid"}
    task = task_of(path, eval_frac=0, answer_regex="#### (.*)", answer="number", **options)
    (prompt,) = task.prompts("train")
    assert (prompt.prompt_id, prompt.answer, prompt.level) == ("jsonl/x-1", "1,234", 5)
    assert task.score(prompt, Completion("<think></think><answer>1234</answer>", 9, False)) == 1.0
    assert task.score(prompt, Completion("<think></think><answer>1235</answer>", 9, False)) == 0.0
    assert not task.isolated and task_of(path, answer="math").isolated


def test_get_works_in_a_process_that_never_listed(tmp_path):
    path = write(tmp_path / "a.jsonl", questions(50))
    listed = task_of(path)
    for split in ("train", "eval"):
        for prompt in listed.prompts(split):
            assert task_of(path).get(prompt.prompt_id) == prompt
            assert listed.held_out(prompt.prompt_id) == (split == "eval")
    for unknown in ("jsonl/0", "jsonl/51", "jsonl/-1", "hf/1", "1", ""):
        with pytest.raises(TaskError, match="no prompt"):
            task_of(path).get(unknown)


def test_a_line_that_changed_under_the_run_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    task = task_of(write(path, questions(30)))
    prompt = task.prompts("train")[0]
    path.write_text("x" * path.stat().st_size)
    with pytest.raises(TaskError, match=r"a\.jsonl has changed: line 1: not JSON"):
        task.get(prompt.prompt_id)


# --- bad lines

BAD = [
    (GOOD, ""),
    ("{", "not JSON"),
    ("[1]", "not an object"),
    ({"answer": 1}, "no 'prompt'"),
    ({"prompt": " ", "answer": 1}, "'prompt' is empty"),
    ({"prompt": ["a"], "answer": 1}, "'prompt' must be text"),
    ({"prompt": "a"}, "no 'answer'"),
    ({"prompt": "a", "answer": ""}, "'answer' is empty"),
    ({"prompt": "a", "answer": None}, "'answer' must be text or a number"),
    ({"prompt": "a", "answer": True}, "'answer' must be text or a number"),
    ({"prompt": "a", "answer": 1, "level": "hard"}, "'level' must be an integer"),
    ({"prompt": "a", "answer": 1, "level": 1.5}, "'level' must be an integer"),
    ({"prompt": "a", "answer": 1, "level": True}, "'level' must be an integer"),
    ("\udcff\udcfe", "not UTF-8"),
    ("9" * 5000, "not JSON"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize("row, why", BAD[1:])
def test_each_bad_line_is_named_with_its_number(tmp_path, row, why):
    path = write(tmp_path / "a.jsonl", [GOOD, "", row])
    line = failure(path)
    assert f"a.jsonl has 1 bad line: line 3: {why}" in line


def test_all_bad_lines_are_counted_and_the_first_quoted(tmp_path):
    line = failure(write(tmp_path / "a.jsonl", [row for row, _ in BAD]))
    assert f"{len(BAD) - 1} bad lines: line 2: " in line and "; and 10 more" in line
    assert "bad_lines=skip" in line and "line 7:" not in line


def test_skipped_lines_are_logged_one_by_one(tmp_path, caplog):
    path = write(tmp_path / "a.jsonl", [row for row, _ in BAD])
    with caplog.at_level(logging.WARNING):
        (prompt,) = task_of(path, bad_lines="skip", eval_frac=0).prompts("train")
    assert prompt.prompt_id == "jsonl/1"
    messages = [record.getMessage() for record in caplog.records]
    for number, (_, why) in enumerate(BAD[1:], start=2):
        assert sum(f"line {number} is left out: {why}" in message for message in messages) == 1
    assert f"{len(BAD) - 1} bad lines left out" in messages[-1]


def test_duplicate_ids_name_both_lines(tmp_path, caplog):
    rows = [{**GOOD, "id": name} for name in "abcab"]
    path = write(tmp_path / "a.jsonl", rows)
    line = failure(path, id_key="id")
    assert "2 bad lines: line 4: its id jsonl/a is that of line 1; line 5" in line
    skipped = task_of(path, id_key="id", bad_lines="skip", eval_frac=0).prompts("train")
    assert [prompt.prompt_id for prompt in skipped] == ["jsonl/a", "jsonl/b", "jsonl/c"]


def test_numbers_are_checked_where_they_are_compared(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "answer": "seven"}])
    assert "line 1: 'answer' is not a number: 'seven'" in failure(path, answer="number")
    assert "does not match" in failure(path, answer_regex="#### (.*)")


def test_a_field_that_is_nowhere_is_hinted_at(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"promt": "a", "answer": 1}])
    assert "set task.options.prompt_key; did you mean promt?" in failure(path)


# --- splits


def test_splits_share_no_question_even_where_lines_repeat(tmp_path):
    path = write(tmp_path / "a.jsonl", questions(2000) + questions(2000))
    task = task_of(path, eval_frac=0.25, num_eval=10_000)
    train, held_out = ([p.text for p in task.prompts(split)] for split in ("train", "eval"))
    assert set(train).isdisjoint(held_out) and len(train) + len(held_out) == 4000
    assert 0.21 < len(held_out) / 4000 < 0.29  # sd 0.01
    again = task_of(path, seed=5, eval_frac=0.25, num_eval=10_000)
    assert [p.text for p in again.prompts("eval")] == held_out


def test_a_file_that_is_held_out_never_trains(tmp_path, caplog):
    train = write(tmp_path / "train.jsonl", questions(30))
    held_out = write(
        tmp_path / "eval.jsonl", [{"prompt": " q3?\n", "answer": 1}, *questions(5, 28)]
    )
    task = task_of(train, eval_path=held_out)
    assert {p.text for p in task.prompts("train")} == {f"q{i}?" for i in range(28)} - {"q3?"}
    assert [p.prompt_id for p in task.prompts("eval")][:2] == ["jsonl/eval/1", "jsonl/eval/2"]
    assert "3 questions are held out too" in caplog.text
    assert task.get("jsonl/eval/2").text == "q28?" and task.held_out("jsonl/29")
    check_task(task)


def test_levels_choose_and_say_what_there_is(tmp_path):
    path = write(tmp_path / "a.jsonl", questions(300))
    task = task_of(path, levels=[0, 2], eval_levels=[1])
    assert {p.level for p in task.prompts("train")} == {0, 2}
    assert {p.level for p in task.prompts("eval")} == {1}
    assert task.levels == (0, 1, 2)
    line = failure(path, levels=[7])
    assert "no train prompt of levels [7]: an empty task; it has levels 0, 1, 2" in line


def test_too_many_prompts_are_a_random_choice_in_order(tmp_path):
    path = write(tmp_path / "a.jsonl", questions(300))
    ids = [int(p.text[1:-1]) for p in task_of(path, num_train=20).prompts("train")]
    assert len(ids) == 20 and ids == sorted(ids) and max(ids) > 100
    other = [int(p.text[1:-1]) for p in task_of(path, num_train=20, seed=1).prompts("train")]
    assert other != ids
    assert len(task_of(path, num_train=20)._splits["train"].numbers) > 200


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": ""}, "task.options.path must name a file"),
        ({"eval_path": "{dir}/evil.jsonl"}, "no such file .*; did you mean eval.jsonl?"),
        ({"pth": "x"}, "unknown option task.options.pth; did you mean path?"),
        ({"answer": "maths"}, "task.options.answer must be one of .* did you mean 'math'"),
        ({"answer_regex": "("}, "answer_regex must be a regular expression"),
        ({"answer_regex": "a"}, "answer_regex must have one group"),
        ({"eval_frac": 1}, "task.options.eval_frac must be >= 0 and < 1"),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path, options, message):
    path = write(tmp_path / "a.jsonl", ["{"])
    write(tmp_path / "eval.jsonl", ["{"])
    options = {key: str(value).format(dir=tmp_path) if key == "eval_path" else value
               for key, value in options.items()}  # fmt: skip
    with pytest.raises(TaskError, match=message):
        task_of(**{"path": path, **options})


def test_a_missing_math_verify_is_named_before_a_score(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", [GOOD])
    monkeypatch.setattr("async_r1.tasks.row_task.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"needs the package math-verify: pip install 'async_r1\[m"):
        task_of(path, answer="math")


def test_an_empty_file_is_an_empty_task(tmp_path):
    assert "no prompt: an empty task" in failure(write(tmp_path / "a.jsonl", ["", " "]))


def test_a_hundred_thousand_lines_take_seconds(tmp_path):
    """About 1.5 s on one core; a quadratic scan would take minutes."""
    path = write(tmp_path / "a.jsonl", questions(100_000))
    start = time.process_time()
    prompts = task_of(path).prompts("train")
    assert len(prompts) > 80_000 and prompts[-1].text
    assert time.process_time() - start < 10
