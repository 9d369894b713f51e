"""Axes of a chart: round ticks and the map from values to pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """Linear map of [low, high] to the pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def tick_step(low: float, high: float, most: int, integer: bool = False) -> float:
    """The smallest round distance that puts at most `most` intervals between low and high.

    Args:
        integer: only whole distances, for counts.
    """
    assert high > low and most > 0
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [power * factor for factor in _ROUND]
    if integer:
        steps = [step for step in steps if step >= 1 and step.is_integer()] or [1.0]
    return next((step for step in steps if step >= rough * (1 - 1e-9)), steps[-1])


def ticks(low: float, high: float, step: float) -> list[float]:
    """Multiples of `step` inside [low, high]."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def value_range(
    values: Sequence[float], low: float | None, high: float | None, most: int
) -> tuple[float, float, float]:
    """(low, high, tick step) of an axis that holds all values and ends on ticks.

    Args:
        low: also inside, such as 0; None if the values alone decide.
        high: likewise.
    """
    least = min([*values, *([] if low is None else [low])], default=0.0)
    most_value = max([*values, *([] if high is None else [high])], default=1.0)
    if least == most_value:
        pad = abs(least) / 2 or 0.5
        least, most_value = least - (0.0 if least == low else pad), most_value + pad
    step = tick_step(least, most_value, most)
    return math.floor(least / step + 1e-9) * step, math.ceil(most_value / step - 1e-9) * step, step


def tick_label(value: float, step: float) -> str:
    """`0.25`, `40`, `12k`: as many decimals as the distance of the ticks needs."""
    if value == 0:
        return "0"
    if step >= 1000:
        return f"{value / 1000:g}k"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if not math.isclose(step * 10**decimals, round(step * 10**decimals)):
        decimals += 1  # 0.25, 2.5
    return f"{value:.{decimals}f}"
