"""Objects from a user's file, and the one line that each way to fail gets."""

import pytest

from async_r1.errors import ConfigError
from async_r1.load_object import is_spec, load_object, resolve_spec

MINE = """
from __future__ import annotations
from dataclasses import dataclass
runs = []
runs.append(1)

@dataclass
class Mine:
    size: int = 3

def reward(text):
    return len(text) * 2.0
"""


def load(spec):
    return load_object(str(spec), option="reward.function")


def failure(spec) -> str:
    with pytest.raises(ConfigError) as caught:
        load(spec)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("reward.function")
    return line


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_functions_and_dataclasses_of_one_module(mine):
    assert load(f"{mine}:reward")("abc") == 6.0
    assert load(f"{mine}:Mine")().size == 3
    assert load(f"{mine}:runs") is load(f"{mine}:runs") and load(f"{mine}:runs") == [1]


def test_a_changed_file_is_read_again(mine):
    load(f"{mine}:reward")
    mine.write_text(MINE.replace("2.0", "5.0"))
    assert load(f"{mine}:reward")("abc") == 15.0


def test_paths_are_relative_to_the_working_directory_or_home(mine, monkeypatch):
    monkeypatch.setenv("HOME", str(mine.parent))
    monkeypatch.chdir(mine.parent)
    for spec in ("mine.py:reward", "./mine.py:reward", "~/mine.py:reward"):
        assert resolve_spec(spec) == f"{mine}:reward"
        assert load(spec)("a") == 2.0
    assert resolve_spec(f"{mine}:reward") == f"{mine}:reward"
    assert resolve_spec("arithmetic") == "arithmetic"
    assert is_spec("a/b.py:c") and not is_spec("arithmetic")


@pytest.mark.parametrize("spec", ["", "mine", "mine.py", "mine.py:", ":reward", "mine.txt:x"])
def test_the_form_is_named(spec):
    assert "must be path/file.py:name" in failure(spec)


def test_no_such_file_names_the_nearest(mine):
    assert "no such file" in failure("/nowhere/mine.py:reward")
    line = failure(f"{mine.parent}/mime.py:reward")
    assert f"no such file {mine.parent}/mime.py; did you mean mine.py?" in line


def test_no_such_name_names_the_nearest(mine):
    assert f"{mine} has no 'rewad'; did you mean reward?" in failure(f"{mine}:rewad")


@pytest.mark.parametrize(
    "source, message",
    [
        ("x = 1\ny = 1 / 0\n", "line 2, raises ZeroDivisionError: division by zero"),
        ("x = 1\nx = (\n", "line 2, raises SyntaxError: '(' was never closed"),
        ("import no_such_thing\n", "line 1, raises ModuleNotFoundError: No module named"),
        ("\n\nimport sys\nsys.exit(3)\n", "line 4, raises SystemExit: 3"),
        ("import json\njson.loads('{')\n", "line 2, raises JSONDecodeError"),
        ("raise ValueError('a\\nb')\n", "line 1, raises ValueError: a b"),
        ("assert False\n", "line 1, raises AssertionError"),
    ],
)
def test_a_file_that_raises_is_named_with_its_line(tmp_path, source, message):
    path = tmp_path / "mine.py"
    path.write_text(source)
    assert f"{path}, {message}" in failure(f"{path}:reward")


def test_a_file_that_failed_can_be_mended(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("reward = 1 / 0\n")
    failure(f"{path}:reward")
    path.write_text("reward = 1\n")
    assert load(f"{path}:reward") == 1
