"""What each role of a run does or waits for, and for how long, from `RUN/roles/*.json`."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from async_r1.errors import RunDirError
from async_r1.run_dir import RunDir, read_json


@dataclass(frozen=True)
class RoleView:
    """One role now.

    Example: `RoleView("learner_000", "waiting", "first batch from the buffer", 12.0)`.
    """

    name: str
    state: str
    detail: str
    age_s: float  # for how long it has done so

    @property
    def text(self) -> str:
        """`waiting for first batch from the buffer`, `starting: loading the engine`."""
        if not self.detail or self.detail.startswith(self.state):
            return self.detail or self.state
        if self.state == "waiting":
            return f"waiting for {self.detail.removeprefix('for ')}"
        return f"{self.state}: {self.detail}"


class RoleWatch:
    """Follows the role files of one run."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._doing: dict[str, tuple[tuple[object, ...], float]] = {}

    def read(self, expected: Iterable[str], launched_at: float, now: float) -> list[RoleView]:
        """The expected roles in that order, then any others.

        Args:
            launched_at: time.time() since when a role that wrote nothing counts as `not started`.
            now: time.time().
        """
        seen = {path.stem for path in self._run_dir.roles.glob("[!.]*.json")}
        names = [*expected]
        names += sorted(seen.difference(names))
        return [self._role(name, launched_at, now) for name in names]

    def _role(self, name: str, launched_at: float, now: float) -> RoleView:
        try:
            value = read_json(self._run_dir.role_file(name))
        except RunDirError:
            return RoleView(name, "not started", "", max(0.0, now - launched_at))
        doing = (value.get("state") or "unknown", value.get("detail") or "", value.get("pid"))
        # A role that says the same again has been at it since it first said so.
        if self._doing.get(name, ((), 0.0))[0] != doing:
            self._doing[name] = (doing, value.get("since") or now)
        return RoleView(name, doing[0], doing[1], max(0.0, now - self._doing[name][1]))


def clock(now: float | None) -> float:
    """`now`, or the time of the call."""
    return time.time() if now is None else now
