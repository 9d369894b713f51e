"""A prompt longer than the context is named before sampling begins."""

import re
from typing import Any

import pytest

from actors import prompt_check
from actors.prompt_check import check_prompts
from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.schema import build
from async_r1.tasks.protocol import Prompt
from async_r1.templates import PromptForm
from learner.nano import nano_tokenizer


class Texts:
    """A task of the given questions."""

    def __init__(self, train: list[str], held_out: list[str]) -> None:
        self._splits = {"train": train, "eval": held_out}

    def prompts(self, split: str) -> list[Prompt]:
        texts = self._splits[split]
        return [Prompt(f"{split}/{i}", text, "", 1) for i, text in enumerate(texts)]


def check(task: Any, max_length: int = 32) -> None:
    config = build(Config, {"model": {"max_length": max_length}})
    check_prompts(config, task, PromptForm(config.task, nano_tokenizer()), "train", "eval")


def test_prompts_that_leave_room_pass() -> None:
    check(Texts(["x" * 30, "<think>" * 20], ["x"]))  # 31 characters or 21 tokens with the newline


@pytest.mark.parametrize(
    ("train", "held_out", "name", "length"),
    [
        (["x", "x" * 31], [], "train/1", 32),
        (["x" * 40, "x" * 50, "x" * 45], ["x" * 35], "train/1", 51),
        (["x"], ["x", "x" * 99], "eval/1", 100),
    ],
)
def test_the_longest_that_does_not_is_named(
    train: list[str], held_out: list[str], name: str, length: int
) -> None:
    error = (
        f"model.max_length must be > {length}, the length of prompt {name} under "
        f"task.template=plain, got 32"
    )
    with pytest.raises(ConfigError, match=re.escape(error)):
        check(Texts(train, held_out))


def test_only_the_first_of_very_many_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_check, "MAX_CHECKED", 2)
    check(Texts(["x", "x", "x" * 99], []))
    with pytest.raises(ConfigError, match="train/1"):
        check(Texts(["x", "x" * 99], []))
