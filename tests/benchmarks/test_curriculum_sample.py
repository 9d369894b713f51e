"""The benchmark of the curriculum, at tiny sizes: that it measures what it says."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def test_it_measures_every_choice(
    script: Callable[[str], ModuleType],
    last_line: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = script("curriculum_sample")
    monkeypatch.setattr(module, "CHOICES", ("mixture", "kimi_curriculum"))
    result = last_line(module, "--quick", "--draws", "3")
    assert result["goal_ms"] == 5.0 and {"ms_small", "ms_large", "cores"} <= result.keys()
    assert len(result["rows"]) == 6
    assert all(0 < row["one_ms"] and 0 < row["ms"] for row in result["rows"])
    assert 28 <= result["bytes_per_prompt"] < 40


def test_memory_is_that_of_the_arrays_each_once(script: Callable[[str], ModuleType]) -> None:
    """1,000 prompts: 12 bytes of evidence, 10 of the roster, 5 of counts, 1 of the level; and the
    order of the epoch, which so few keep."""
    module = script("curriculum_sample")
    options = module.compose(["curriculum=thompson"]).curriculum
    mixture = module.Mixture(options, np.arange(1000) % 5, seed=0)
    assert module.array_bytes(mixture) - (12 + 10 + 5 + 1 + 8) * 1000 < 500


def test_the_made_up_learner_learns_from_every_setting(
    script: Callable[[str], ModuleType], last_line: Callable[..., dict[str, Any]]
) -> None:
    module = script("curriculum_toy")
    rows = last_line(module, "--quick", "--prompts", "60")["settings"]
    assert rows.keys() == module.SETTINGS.keys()
    assert all(0 < row["zero_variance"] < 1 for row in rows.values())
    assert all(row["last_success"] >= row["mean_success"] for row in rows.values())
