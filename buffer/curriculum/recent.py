"""What was drawn lately, for the metrics."""

from collections.abc import Sequence
from typing import Any

_SPAN = 256  # draws after which one counts for 1/e


class Recent:
    """Shares of the components, and the mean estimated success, of the last draws."""

    def __init__(self, names: Sequence[str]) -> None:
        self._counts = dict.fromkeys(names, 0.0)
        self._success = 0.0

    def add(self, names: Sequence[str], successes: Sequence[float]) -> None:
        """Of each draw the component, and the estimated success of its prompt."""
        kept = (1.0 - 1.0 / _SPAN) ** len(names)
        self._success = kept * self._success + sum(successes)
        for name in self._counts:
            self._counts[name] = kept * self._counts[name] + names.count(name)

    def metrics(self) -> dict[str, float]:
        total = sum(self._counts.values())
        if not total:
            return {}
        shares = {f"curriculum/share/{name}": n / total for name, n in self._counts.items()}
        return {"curriculum/success/drawn": self._success / total, **shares}

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self._counts), "success": self._success}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        known = state["counts"].items()
        self._counts.update((name, float(n)) for name, n in known if name in self._counts)
        self._success = float(state["success"])
