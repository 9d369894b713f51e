"""Places at which a test can have this process killed, as `kill -9` would.

`ASYNC_R1_FAILPOINT="name:hit"` kills it at the hit-th time that it passes the place of that name;
without the variable a place costs one comparison.
"""

import os
import signal

VARIABLE = "ASYNC_R1_FAILPOINT"

_name, _, _hit = os.environ.get(VARIABLE, "").partition(":")
_left = int(_hit or 1)


def failpoint(name: str) -> None:
    """Die here if this is the place and the time."""
    if name == _name:
        _count_down()


def armed(name: str) -> bool:
    """Whether the next pass of this place is the last one, for a place that dies half-way."""
    return name == _name and _left == 1


def _count_down() -> None:
    global _left
    _left -= 1
    if not _left:
        os.kill(os.getpid(), signal.SIGKILL)
