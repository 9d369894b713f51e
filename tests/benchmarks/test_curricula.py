"""The comparison of curricula: its arithmetic on rows made up here."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

Script = Callable[[str], ModuleType]


def made_up(module: ModuleType, good: float) -> Any:
    """A view of 20 versions, 1,000 tokens and 8 groups each; all without variance at first."""
    buffer = [
        {
            "policy_version": version,
            "tokens/received": 1000 * version,
            "groups/closed": 8,
            "groups/zero_variance": 8 if version <= module.WINDOW else 2,
            "curriculum/success/level_1": 0.9,
        }
        for version in range(1, 21)
    ]
    evals = [
        {
            "policy_version": version,
            "eval/accuracy": good * version / 20,
            "eval/accuracy/level_1": 1.0,
            "eval/accuracy/level_4": good * version / 20,
        }
        for version in (0, 10, 20)
    ]
    learner = [{"tokens": 9000, "wall_s": 12.0}]
    return SimpleNamespace(streams={"buffer": buffer, "learner": learner}, evals=evals)


def test_curves_go_over_generated_tokens(script: Script) -> None:
    module = script("curricula")
    found = module.measure(made_up(module, 0.8))
    assert found["accuracy"] == [[0, 0.0], [10_000, 0.4], [20_000, 0.8]]
    assert found["zero_variance"] == [[10_000, 1.0], [20_000, 0.25]]
    assert found["zero_variance_groups"] == 0.625
    assert found["levels"] == {1: [1.0, 1.0, 1.0], 4: [0.0, 0.4, 0.8]}
    assert found["success"] == {"level_1": 0.9}
    assert module.last_before(found["accuracy"], 19_999) == 0.4
    assert module.last_before(found["accuracy"], -1) is None


def test_the_report_and_its_figures(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("curricula")
    results = {name: module.measure(made_up(module, 0.8)) for name in ("uniform", "mixture")}
    module.report(results)
    shown = capsys.readouterr().out
    assert "level 4" in shown and "20 k" in shown
    module.draw(tmp_path / "curricula.svg", results)
    for name in ("curricula.svg", "curricula_zero_variance.svg"):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
