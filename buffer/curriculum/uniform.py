"""Every prompt once per epoch, in an order that follows from seed and epoch."""

from typing import Any

import numpy as np

from buffer.curriculum.protocol import Indices, Outcome


class UniformCurriculum:
    """Passes over the training prompts; success does not matter to it."""

    def __init__(self, num_prompts: int, seed: int) -> None:
        assert num_prompts
        self._num_prompts = num_prompts
        self._seed = seed
        self._num_drawn = 0
        self._epoch = -1
        self._order = np.zeros(0, np.int64)

    def sample(self, count: int, version: int) -> Indices:
        chosen = np.empty(count, np.int64)
        for draw in range(count):
            epoch, position = divmod(self._num_drawn, self._num_prompts)
            if epoch != self._epoch:
                rng = np.random.default_rng([self._seed, epoch])
                self._epoch, self._order = epoch, rng.permutation(self._num_prompts)
            chosen[draw] = self._order[position]
            self.opened(int(chosen[draw]), version)
        return chosen

    def opened(self, prompt: int, version: int) -> None:
        self._num_drawn += 1

    def observe(self, outcome: Outcome) -> None:
        """Nothing follows from it."""

    def abandoned(self, prompt: int) -> None:
        """Nothing follows from it."""

    def state_dict(self) -> dict[str, Any]:
        return {"num_drawn": self._num_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_drawn = int(state["num_drawn"])

    def metrics(self) -> dict[str, float]:
        return {"curriculum/uniform/epoch": self._num_drawn / self._num_prompts}
