"""Free TCP ports."""

import contextlib
import socket


def free_ports(host: str, count: int) -> list[int]:
    """Ports that are free now, all different.

    They are released before the roles bind them; that another program takes one in between is
    possible, and ends in an error of the role that names the address.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def free_port(host: str) -> int:
    """A port that is free now."""
    return free_ports(host, 1)[0]
