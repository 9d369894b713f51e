"""Which prompt is leased next; learns from the success of closed groups."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from async_r1.tasks.protocol import Prompt


class Curriculum(Protocol):
    """A prompt sampler with a state of its own."""

    def next_prompt(self, version: int) -> Prompt:
        """The prompt of the next group."""

    def observe(self, prompt: Prompt, *, successes: float, trials: int, version: int) -> None:
        """A group of the prompt closed with this many successes on the task reward."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def metrics(self) -> dict[str, float]: ...


class UniformCurriculum:
    """Every prompt once per epoch, in an order that follows from seed and epoch."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        assert len(prompts)
        self._prompts = prompts
        self._seed = seed
        self._num_drawn = 0
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def next_prompt(self, version: int) -> Prompt:
        epoch, position = divmod(self._num_drawn, len(self._prompts))
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._prompts))
        self._num_drawn += 1
        return self._prompts[int(self._order[position])]

    def observe(self, prompt: Prompt, *, successes: float, trials: int, version: int) -> None:
        """Uniform sampling does not depend on success."""

    def state_dict(self) -> dict[str, Any]:
        return {"num_drawn": self._num_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_drawn = int(state["num_drawn"])

    def metrics(self) -> dict[str, float]:
        return {"curriculum/uniform/epoch": self._num_drawn / len(self._prompts)}


def make_curriculum(name: str, prompts: Sequence[Prompt], seed: int) -> Curriculum:
    """The curriculum of a config name."""
    return {"uniform": UniformCurriculum}[name](prompts, seed)
