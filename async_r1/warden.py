"""Ends a run's processes when the launcher cannot any more.

Reads process group ids, one a line, from its standard input, which the launcher holds open. When
the input ends without the line `done`, the launcher is gone: every group gets SIGTERM, and SIGKILL
after `GRACE_S`. It runs in a session of its own, so that a Ctrl-C does not reach it.
"""

import os
import signal
import sys
import time

GRACE_S = 5.0


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    groups: list[int] = []
    for line in sys.stdin:
        if line.strip() == "done":
            return
        groups.append(int(line))
    end_groups(groups, GRACE_S)


def end_groups(groups: list[int], grace_s: float) -> None:
    """SIGTERM to every process group, then SIGKILL to those that are left."""
    for group in groups:
        signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(group_alive(group) for group in groups):
        time.sleep(0.05)
    for group in groups:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: int) -> None:
    """Send a signal to a process group; one that has ended is none to send it to."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def group_alive(group: int) -> bool:
    """Whether a process group has any member that is not a zombie of a dead parent."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
