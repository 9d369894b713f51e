"""Ports: free ones are free, taken ones are refused by name."""

import socket

import pytest

from async_r1.config import RunConfig
from async_r1.errors import ConfigError
from async_r1.ports import check_addresses, free_port, free_ports


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = free_ports("127.0.0.1", 5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_given_addresses_pass_when_free() -> None:
    check_addresses(RunConfig())
    check_addresses(RunConfig(buffer_address=f"tcp://127.0.0.1:{free_port('127.0.0.1')}"))


@pytest.mark.parametrize("option", ["buffer_address", "weights_address"])
def test_a_taken_port_is_named(option: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        message = f"run.{option} must be a free port, got {address}: another process has it"
        with pytest.raises(ConfigError, match=message):
            check_addresses(RunConfig(**{option: address}))


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:5555", "tcp://127.0.0.1:70000"])
def test_an_address_of_nobody_here_is_refused(address: str) -> None:
    message = f"run.buffer_address must be an address that this host can bind, got {address}"
    with pytest.raises(ConfigError, match=message):
        check_addresses(RunConfig(buffer_address=address))
