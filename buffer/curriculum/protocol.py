"""What every curriculum is to the rest of the buffer."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a closed group says about its prompt."""

    prompt: int  # index in the training prompts
    successes: float  # right answers by the task reward alone
    trials: int  # scored members
    version: int  # that sampled it: floor of the mean version of its tokens
    zero_variance: bool = False  # its total rewards are equal
    abs_advantage: float = 0.0  # mean |advantage| of its members
    reward: float = 0.0  # mean task reward


class Curriculum(Protocol):
    """Which prompt is leased next; prompts go by their index in the training split.

    Whatever is chosen goes through `opened`, so that a journal which replays `opened`, `observe`
    and `abandoned` in their order makes the same state without choosing again.
    """

    def sample(self, count: int, version: int) -> Indices:
        """Prompts to lease now [count], in order; they are in flight from now on."""

    def opened(self, prompt: int, version: int) -> None:
        """The prompt was leased at this version."""

    def observe(self, outcome: Outcome) -> None:
        """A group of the prompt closed with scored members: one less is in flight."""

    def abandoned(self, prompt: int) -> None:
        """A group of the prompt left without an outcome: one less is in flight."""

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]:
        """Plain values and arrays."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same prompts and configuration."""
