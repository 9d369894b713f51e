"""Every component and gate in a whole buffer: killed, restored from records and from snapshots.

After every message a second core that only reads the journal must have the same curriculum.
"""

import pytest

from tests.buffer.curriculum.test_mixture import ALL
from tests.buffer.test_restore import make_killed

EVERYTHING = {
    "mix": ALL,
    "kimi_curriculum": {"windows": [{"version": 0, "low": 0.2, "high": 0.9}]},
    "success": {"half_life": 4.0},
    "adarft": {"groups": 3},
    "retire": {"threshold": 0.5, "trials": 1.0, "review": 0.4},
    "greso": {"enabled": True, "groups": 3},
}


@pytest.mark.parametrize("compacts", [False, True])
def test_a_killed_buffer_goes_on_with_the_same_curriculum(compacts: bool) -> None:
    num_kills = num_retired = 0
    for seed in range(2):
        world = make_killed(
            seed, 0.01, curriculum=EVERYTHING, eval={"every": 0}, world={"turbulence": 0.01}
        )
        world.compacts = compacts
        world.run(6)
        assert world.error is None
        num_kills += world.num_kills
        metrics = world.core.curriculum.metrics()
        num_retired += metrics["curriculum/retired"]
        assert metrics["curriculum/epoch"] > 0
    assert num_kills > 3 and num_retired > 2
