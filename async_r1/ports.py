"""Free TCP ports."""

import contextlib
import errno
import socket

from async_r1.config import RunConfig
from async_r1.errors import ConfigError


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


def check_addresses(run: RunConfig) -> None:
    """Refuse given addresses that cannot be bound.

    Raises:
        ConfigError: the port is taken, or the address is not of this host.
    """
    for option in ("buffer_address", "weights_address"):
        address: str = getattr(run, option)
        if address:
            _check_address(f"run.{option}", address)


def _check_address(option: str, address: str) -> None:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.socket() as probe:
        # As zmq binds: a port that a finished run has left in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, OverflowError) as error:
            taken = getattr(error, "errno", None) == errno.EADDRINUSE
            rule = "a free port" if taken else "an address that this host can bind"
            reason = "another process has it" if taken else str(error)
            raise ConfigError(f"{option} must be {rule}, got {address}: {reason}") from None
