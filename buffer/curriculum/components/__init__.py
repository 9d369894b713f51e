"""The components by their names in `curriculum.mix`."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from async_r1.config_curriculum import CurriculumConfig
from async_r1.types import UInt8
from buffer.curriculum.components.adarft import AdaRft
from buffer.curriculum.components.base import Component
from buffer.curriculum.components.kimi_curriculum import KimiCurriculum
from buffer.curriculum.components.kimi_priority import KimiPriority
from buffer.curriculum.components.learnability import Learnability
from buffer.curriculum.components.plr import PrioritizedLevelReplay
from buffer.curriculum.components.pools import Pools
from buffer.curriculum.components.thompson import Thompson
from buffer.curriculum.components.uniform import Uniform
from buffer.curriculum.levels import Levels
from buffer.curriculum.walk import Walk


def make_components(
    options: CurriculumConfig, *, walk: Walk, levels: Levels, unsolved: UInt8, last_drawn: Any
) -> tuple[list[Component], list[float]]:
    """Those of a weight above 0 with their weights; uniform if there is none."""
    weights = {field.name: getattr(options.mix, field.name) for field in fields(options.mix)}
    weights = {name: weight for name, weight in weights.items() if weight} or {"uniform": 1.0}
    makers: dict[str, Callable[[], Component]] = {
        "uniform": lambda: Uniform(walk),
        "kimi_curriculum": lambda: KimiCurriculum(options.kimi_curriculum, levels),
        "kimi_priority": lambda: KimiPriority(options.kimi_priority, unsolved),
        "learnability": lambda: Learnability(options.learnability),
        "thompson": lambda: Thompson(options.thompson),
        "plr": lambda: PrioritizedLevelReplay(options.plr, last_drawn),
        "adarft": lambda: AdaRft(options.adarft, levels),
        "pools": lambda: Pools(options.pools),
    }
    return [makers[name]() for name in weights], list(weights.values())
