"""What the buffer's tests share."""

import pytest

from tests.buffer.desk import Desk
from tests.buffer.fakes import make_config


@pytest.fixture
def desk() -> Desk:
    """B = 2 groups of 2, eta = 1: four groups, eight rollouts, are admitted at version 0."""
    return Desk(make_config(staleness={"eta": 1}))
