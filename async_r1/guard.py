"""Ends every process of a run, whoever started it and however the launcher ended.

All processes of a run carry a token in their environment, which children inherit through forks,
sessions and process groups. `reap` finds them by it. `python -m async_r1.guard TOKEN GRACE_S` is
a process of its own that waits for the end of its standard input, a pipe from the launcher: that
end comes with the launcher's, also by SIGKILL.

Standard library only: it has to start fast, and to work when nothing else does.
"""

import os
import signal
import sys
import time
from pathlib import Path

VARIABLE = "ASYNC_R1_PROCESS"  # holds "<token>/<role>"
_POLL_S = 0.05
_KILL_S = 5.0  # after SIGKILL a process goes at once, unless the kernel holds it
_SETTLE_S = 0.5  # a process that is just being started has no environment yet


def members(token: str) -> list[int]:
    """Processes whose environment has the token, or the token and a role: "<token>/<role>"."""
    needle = f"{VARIABLE}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it ended just now, or is another user's
            continue
        values = [item for item in environment.split(b"\0") if item.startswith(needle)]
        if any(item == needle or item[len(needle) :].startswith(b"/") for item in values):
            found.append(int(entry.name))
    return found


def reap(token: str, grace_s: float = 0.0, settle_s: float = 0.0) -> list[int]:
    """End the processes of a token: SIGTERM, `grace_s` later SIGKILL, until there are none.

    Args:
        settle_s: for how long there must be none.

    Returns:
        Processes that are still there seconds after SIGKILL; normally none.
    """
    started = last_seen = time.monotonic()
    asked: set[int] = set()
    while True:
        pids = members(token)
        now = time.monotonic()
        if pids:
            last_seen = now
        elif now - last_seen >= settle_s:
            return []
        if now - started >= grace_s + settle_s + _KILL_S:
            return pids
        for pid in pids:
            if now - started >= grace_s:
                _send(pid, signal.SIGKILL)
            elif pid not in asked:
                _send(pid, signal.SIGTERM)
                asked.add(pid)
        time.sleep(_POLL_S)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended by itself


def main() -> None:
    """Wait for the launcher's end, then end what it left."""
    token, grace_s = sys.argv[1], float(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    reap(token, grace_s, _SETTLE_S)


if __name__ == "__main__":
    main()
