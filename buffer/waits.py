"""How long suspended rollouts wait for their next lease: starvation would be seen here."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Waits:
    """Waits since the last look, in versions and in leases that others got meanwhile."""

    _num_leases: int = 0
    _since: dict[int, tuple[int, int]] = field(default_factory=dict)  # version, leases; by rollout
    _longest: tuple[int, int] = (0, 0)

    def suspended(self, rollout_id: int, version: int) -> None:
        """A rollout waits from now on."""
        self._since[rollout_id] = (version, self._num_leases)

    def leased(self, rollout_id: int, version: int) -> None:
        """A rollout was leased, whether it had waited or not."""
        if rollout_id in self._since:
            self._note(self._since.pop(rollout_id), version)
        self._num_leases += 1

    def left(self, rollout_id: int) -> None:
        """A rollout waits no more: its group closed without it."""
        self._since.pop(rollout_id, None)

    def take(self, version: int) -> dict[str, int]:
        """The longest waits, of those too that have not ended."""
        for since in self._since.values():
            self._note(since, version)
        (versions, leases), self._longest = self._longest, (0, 0)
        return {
            "leases/waiting": len(self._since),
            "leases/max_wait_versions": versions,
            "leases/max_wait_leases": leases,
        }

    def _note(self, since: tuple[int, int], version: int) -> None:
        waited = (version - since[0], self._num_leases - since[1])
        self._longest = (max(self._longest[0], waited[0]), max(self._longest[1], waited[1]))
