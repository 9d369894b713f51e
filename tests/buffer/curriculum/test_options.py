"""Rules of the curriculum's options, and what the shipped choices make."""

from typing import Any

import pytest

from async_r1.compose import compose
from async_r1.config import Config
from async_r1.config_dir import groups
from async_r1.errors import ConfigError
from async_r1.rules import check
from async_r1.schema import build
from buffer.curriculum import make_curriculum
from tests.buffer.curriculum.helpers import outcome
from tests.buffer.fakes import make_prompt


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mix": {"kimi_curriculum": 1.0}}, "windows must have at least one window, got []"),
        (
            {"kimi_curriculum": {"windows": [{"version": 4}, {"version": 4}]}},
            r"windows must be in order of their versions, got [4, 4]",
        ),
        (
            {"kimi_curriculum": {"windows": [{"low": 0.5, "high": 0.5}]}},
            "windows[0].high must be > its low=0.5, got 0.5",
        ),
        ({"pools": {"hard_at": 0.8}}, "hard_at must be < curriculum.pools.easy_at=0.75, got 0.8"),
        ({"greso": {"initial": 0.99}}, "initial must be from curriculum.greso.lowest=0.05 to"),
        ({"mix": {"learnabilty": 1.0}}, "did you mean curriculum.mix.learnability?"),
        ({"candidates": 3}, "curriculum.candidates must be >= 64, got 3"),
        ({"success": {"estimate": "map"}}, "curriculum.success.estimate must be one of"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(build(Config, {"model": {"path": "m"}, "curriculum": options}))
    assert error in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("choice", groups()["curriculum"])
def test_every_choice_draws_and_learns(choice: str) -> None:
    """What it is named after draws; nothing falls back while there are prompts enough."""
    config = compose([f"curriculum={choice}"])
    prompts = [make_prompt(i) for i in range(300)]
    curriculum = make_curriculum(config, prompts)
    for version in range(20):
        drawn = curriculum.sample(16, version).tolist()
        assert len(set(drawn)) == 16
        for prompt in drawn:
            curriculum.observe(outcome(prompt, [8, 4, 0][prompt % 3], version=version))
    metrics = curriculum.metrics()
    assert metrics["curriculum/share/fallback"] == 0
    if hasattr(config.curriculum.mix, choice):
        assert metrics[f"curriculum/share/{choice}"] > 0.8


def test_presets_with_published_figures_keep_the_uniform_order() -> None:
    published = [name for name in groups()["experiment"] if name.startswith(("demo", "smoke"))]
    for experiment in [*published, "nano_long"]:
        mix = compose([f"experiment={experiment}"]).curriculum.mix
        assert mix.uniform == 1.0 and sum(vars(mix).values()) == 1.0
    mix = compose().curriculum.mix
    assert (mix.learnability, mix.kimi_priority, mix.uniform) == (0.65, 0.2, 0.15)
