"""When draws may happen, from counts of inserts and samples alone (after Reverb's limiters)."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class SamplesPerInsert:
    """Keeps samples within `tolerance` of `samples_per_insert * inserts`.

    Units are items, those included that closed without variance and whose slots draws consume
    untrained. `can_sample(n)` holds while the samples after the draw would exceed the inserts'
    worth by no more than the tolerance; the first draw waits for `min_inserts` besides. The other
    side, inserts running ahead of samples, is bounded where groups are leased (`admission.py`).
    """

    samples_per_insert: float
    tolerance: float
    min_inserts: int = 0
    num_inserts: float = 0
    num_samples: int = 0

    def can_sample(self, count: int) -> bool:
        return self.num_missing == 0 and self.num_samples + count <= (
            self.samples_per_insert * self.num_inserts + self.tolerance
        )

    @property
    def num_missing(self) -> float:
        """Inserts that the first draw still waits for."""
        return max(0, self.min_inserts - self.num_inserts) if not self.num_samples else 0

    def inserted(self, count: int = 1) -> None:
        self.num_inserts += count

    def uninserted(self, count: float) -> None:
        """Take back inserts whose slots were given back without a draw."""
        self.num_inserts = max(0.0, self.num_inserts - count)

    def sampled(self, count: int) -> None:
        self.num_samples += count

    def unsampled(self, count: int) -> None:
        """Take back a draw that nobody trained."""
        assert count <= self.num_samples
        self.num_samples -= count

    @property
    def ratio(self) -> float:
        """Samples per insert so far; 0 before the first insert."""
        return self.num_samples / self.num_inserts if self.num_inserts else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"num_inserts": self.num_inserts, "num_samples": self.num_samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_inserts = float(state["num_inserts"])
        self.num_samples = int(state["num_samples"])
