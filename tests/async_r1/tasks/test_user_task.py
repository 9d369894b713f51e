"""A task of the user's own in one file, and the one line that each mistake in it gets."""

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError, TaskError
from async_r1.tasks import Completion, check_task, load_task, resolve_paths

MINE = """
import time
from async_r1.tasks import Prompt

class Mine:
    name = "mine"
    isolated = True

    def __init__(self, cfg):
        self.size = cfg.options.get("size", 3)

    def prompts(self, split):
        first = 0 if split == "train" else 100
        return [self.get(f"mine/{first + i}") for i in range(self.size)]

    def get(self, prompt_id):
        number = int(prompt_id.removeprefix("mine/"))
        return Prompt(prompt_id, f"double {number}", str(2 * number), level=1)

    def score(self, prompt, completion):
        return float(prompt.answer in completion.text)
"""


def failure(tmp_path, *edits, name="Mine", **options) -> str:
    source = MINE
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises((TaskError, ConfigError)) as caught:
        check_task(load_task(TaskConfig(name=f"{tmp_path}/mine.py:{name}", options=options)))
    (line,) = str(caught.value).splitlines()
    assert "mine" in line
    return line


def test_a_task_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    cfg = TaskConfig(name="mine.py:Mine", options={"size": 5})
    task = load_task(cfg)
    check_task(task)
    assert [p.text for p in task.prompts("train")] == [f"double {i}" for i in range(5)]
    assert task.score(task.get("mine/4"), Completion("is it 8?", 3, truncated=False)) == 1.0
    assert task.isolated
    elsewhere = resolve_paths(cfg)
    monkeypatch.chdir("/")
    assert elsewhere.name == f"{tmp_path}/mine.py:Mine"
    assert load_task(elsewhere).get("mine/1") == task.get("mine/1")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("def score", "def scor", "has no method score; a task has prompts, get, score"),
        ("    name =", "    nam =", "must have a name"),
        ('name = "mine"', "name = 7", "must have a name"),
        ("prompts(self, split)", "prompts(self)", "prompts must take 1 argument beside self"),
        ("score(self, prompt, completion)", "score(self, completion)", "score must take 2 arg"),
        ("return [self.get", "return 7 and [str", "train prompt 0 must be a Prompt, got str"),
        ("range(self.size)", "range(0)", "has no prompt that trains: an empty task"),
        ("first + i", "first", "train prompt 1: its id mine/0 is that of an earlier one"),
        ("0 if split", "100 if split", "prompt mine/100 is in the train and eval splits"),
        ("str(2 * number)", "2 * number", "train prompt 0: answer must be text, got 0"),
        ('f"double {number}"', '" "', "train prompt 0: text must be text, got ' '"),
        ("level=1", "level='easy'", "train prompt 0: level must be an integer"),
        ("f\"double {number}\"", "str(time.time_ns())", "get('mine/0') gives another prompt"),
        ("return [self", "1 / 0; return [self", "cannot list its prompts: ZeroDivisionError"),
        ("self.size = cfg", "1 / 0; self.size = cfg", "line 10, raises ZeroDivisionError"),
        ("def __init__(self, cfg)", "def __init__(self)", "raises TypeError: Mine.__init__()"),
        ("from async_r1.tasks import Prompt", "import nothing_here", "line 3, raises ModuleNot"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path, old, new, message):
    assert message in failure(tmp_path, (old, new))


def test_the_eval_split_is_needed_only_where_there_are_evals(tmp_path):
    edit = ("range(self.size)", "range(3 if split == 'train' else 0)")
    assert "no prompt that is held out" in failure(tmp_path, edit)
    check_task(load_task(TaskConfig(name=f"{tmp_path}/mine.py:Mine")), evals=False)


def test_names_in_the_file(tmp_path):
    assert "has no 'Mien'; did you mean Mine?" in failure(tmp_path, name="Mien")
    edit = ("class Mine:", "size = 3\nclass Mine:")
    assert "must be a class, got int" in failure(tmp_path, edit, name="size")


def test_a_path_without_a_class_is_an_unknown_task():
    with pytest.raises(TaskError, match=r"nor is it path/file\.py:Class"):
        load_task(TaskConfig(name="mine.py"))
