"""`staleness.force`: actors get an older policy than the learner has, by a fixed lag."""

from collections.abc import Iterable

from torch import Tensor

Weights = list[tuple[str, Tensor]]


class Lag:
    """Keeps the last K + 1 versions in host memory."""

    def __init__(self, lag: int) -> None:
        assert lag >= 0
        self._lag = lag
        self._kept: dict[int, Weights] = {}

    def publishable(
        self, version: int, weights: Iterable[tuple[str, Tensor]]
    ) -> tuple[int, Weights] | None:
        """What to publish once the learner has reached `version`, under its true number.

        None while that is version 0: the actors start from it.
        """
        self._kept[version] = [(name, weight.detach().cpu().clone()) for name, weight in weights]
        self._kept.pop(version - self._lag - 1, None)
        target = version - self._lag
        return (target, self._kept[target]) if target > 0 else None
