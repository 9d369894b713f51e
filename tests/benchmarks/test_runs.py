"""Runs are used again only for what they were asked for."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def test_a_run_is_used_again_only_if_the_same_was_asked(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = script("runs")
    launched: list[Any] = []

    def launch(directory: Path, overrides: list[str], starters: Any) -> Any:
        (directory / "config").mkdir(parents=True)
        launched.append((overrides[:-1], starters["buffer"][0]))
        return runs.Costs({"actor_000": 3.0}, {"actor_000": float(len(launched))})

    monkeypatch.setattr(runs, "_launch", launch)
    directory = tmp_path / "run"

    def ask(*overrides: str, **options: Any) -> float:
        found: float = runs.run(directory, overrides, **options).costs.running_s["actor_000"]
        return found

    assert ask("seed=1") == 1.0
    assert ask("seed=1") == 1.0
    assert ask("seed=2") == 2.0
    assert ask("seed=2", wrapper={"buffer": ("env", "A=1")}) == 3.0
    assert [words for words, _ in launched] == [["seed=1"], ["seed=2"], ["seed=2"]]
    assert launched[-1][1] == "env"


def test_refusals_are_one_line(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    runs = script("runs")
    (tmp_path / "other").mkdir()
    with pytest.raises(SystemExit, match="not of this benchmark"):
        runs.run(tmp_path / "other", ["experiment=demo"])
    with pytest.raises(SystemExit, match=r"learner\.num_updates") as refused:
        runs.run(tmp_path / "run", ["experiment=demo", "learner.num_updates=0"])
    assert "\n" not in str(refused.value)
