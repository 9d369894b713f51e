"""What `launch` refuses of the reward section before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.rewards import check_rewards, is_isolated, make_rewards
from async_r1.schema import build
from async_r1.tasks import Completion, load_task

SOURCE = """
import math

def good(data_source, solution_str, ground_truth, extra_info, unit=1.0):
    return unit

def loose(*args, **keywords):
    return 1.0

def few(solution_str, ground_truth):
    return 1.0

positional = lambda data_source, solution_str, ground_truth, extra_info, /: 1.0
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("x = 1\nraise OSError('no licence')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(**reward: Any) -> Config:
    return build(Config, {"reward": reward, "task": {"max_new_tokens": 100}})


def test_the_path_becomes_absolute(here: Path) -> None:
    for spec in ("mine.py:good", "./mine.py:loose", f"{here}/mine.py:good"):
        name = spec.rpartition(":")[2]
        assert check_rewards(config_of(function=spec)).reward.function == f"{here}/mine.py:{name}"
    config = config_of(function="mine.py:good", function_options={"unit": 2})
    assert check_rewards(config).reward.function_options == {"unit": 2}
    assert check_rewards(config_of()) == config_of()


@pytest.mark.parametrize(
    "reward, message",
    [
        ({"function": "gone.py:f"}, "reward.function: no such file"),
        ({"function": "mine.py"}, "reward.function must be path/file.py:name"),
        ({"function": "mine.py:goof"}, "has no 'goof'; did you mean good?"),
        ({"function": "broken.py:f"}, "raises SyntaxError"),
        ({"function": "raises.py:f"}, "line 2, raises OSError: no licence"),
        ({"function": "mine.py:number"}, "must be a function, got int"),
        ({"function": "mine.py:few"}, "must take the keywords data_source, solution_str"),
        ({"function": "mine.py:positional"}, "must take the keywords"),
        ({"function": "mine.py:good", "function_options": {"units": 2}}, "'units'"),
        (
            {"function": "mine.py:loose", "function_options": {"extra_info": 2}},
            "reward.function_options must not hold 'extra_info'",
        ),
        ({"function_options": {"unit": 2}}, "has no effect without reward.function"),
        ({"overlong_cache": 101}, "reward.overlong_cache must be <= task.max_new_tokens=100"),
        ({"target_language": "english"}, "reward.target_language has no value 'english'"),
    ],
)
def test_what_is_refused(here: Path, reward: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_rewards(config_of(**reward))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_processes_are_for_functions_and_isolated_tasks() -> None:
    config = config_of()
    task = load_task(config.task)
    assert not is_isolated(config.reward, task)
    assert is_isolated(config_of(function="mine.py:good").reward, task)
    task.isolated = True  # type: ignore[attr-defined]
    assert is_isolated(config.reward, task)


@pytest.mark.parametrize(
    ("num_tokens", "truncated", "expected"),
    [(80, False, 0.0), (90, False, -0.5), (100, True, -1.0), (60, True, -1.0)],
)
def test_what_the_context_cuts_is_as_overlong_as_what_the_limit_cuts(
    num_tokens: int, truncated: bool, expected: float
) -> None:
    config = config_of(overlong=1.0, overlong_cache=20)
    task = load_task(config.task)
    rewards = make_rewards(config.reward, config.task, task)
    outcome = rewards.outcome(task.prompts("train")[0], Completion("", num_tokens, truncated))
    assert outcome.rewards["overlong"] == pytest.approx(expected)
