"""Ten million prompts: a long history of draws and outcomes, restored and replayed."""

import random

import numpy as np
import pytest

from buffer.curriculum.mixture import Mixture
from tests.buffer.curriculum.helpers import make_mixture, outcome

SIZE = 10_000_000


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_million_prompts() -> None:
    """Nothing is drawn twice at a time, retired prompts come back only for review, and a state of
    the prompts that were seen is small and goes on alike."""
    first, second = (big() for _ in range(2))
    rng = random.Random(0)
    flying: list[int] = []
    for version in range(300):
        drawn = first.sample(64, version).tolist()
        assert not set(drawn) & set(flying) and len(set(drawn)) == 64
        flying += drawn
        rng.shuffle(flying)
        for prompt in flying[256:]:
            first.observe(outcome(prompt, 2 * (prompt % 5), version=version))
        flying = flying[:256]
    assert first.check_valid() == (True, "")
    metrics = first.metrics()
    assert metrics["curriculum/retired"] > 100 and metrics["curriculum/repeated"] == 0
    state = first.state_dict()
    assert sum(array.nbytes for array in arrays(state)) < 100 * 300 * 64
    second.load_state_dict(state)
    for version in range(300, 310):
        assert first.sample(64, version).tolist() == second.sample(64, version).tolist()


def big() -> Mixture:
    mix = {"learnability": 1.0, "uniform": 1.0, "plr": 1.0, "kimi_curriculum": 1.0}
    return make_mixture(
        np.arange(SIZE) % 5,
        mix=mix,
        kimi_curriculum={"windows": [{"version": 0, "low": 0.1, "high": 0.9}]},
        retire={"threshold": 0.8, "trials": 8},
    )


def arrays(state: object) -> list[np.ndarray]:
    if isinstance(state, dict):
        return [array for value in state.values() for array in arrays(value)]
    return [state] if isinstance(state, np.ndarray) else []
