"""The state machine with one more thing that may happen: the buffer is killed and restored.

The bound, the caps and progress must hold over restarts, whenever they come.
"""

import pytest
from hypothesis.stateful import rule

from tests.buffer.killed_world import KilledWorld
from tests.buffer.test_state_machine import Buffer, explore


class KilledBuffer(Buffer):
    world: KilledWorld
    make_world = KilledWorld

    @rule()
    def buffer_is_killed(self) -> None:
        self.world.kill()

    @rule()
    def learner_starts_anew(self) -> None:
        """It repeats what it asked for instead (`KilledWorld.kill`)."""


@pytest.mark.slow
def test_every_script_keeps_the_bound_over_restarts() -> None:
    explore(4, 10, machine=KilledBuffer, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_long_scripts_with_restarts() -> None:
    explore(300, 40, machine=KilledBuffer)
