"""Free TCP ports."""

import socket


def free_port(host: str) -> int:
    """A port that nobody listens on at `host` now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
