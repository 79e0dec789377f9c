"""Ports for a Ray head in tests: chosen seconds before they are bound, and still free by then."""

import socket

import pytest

from tests.e2e.head import free_ports, quiet_ports


def test_a_port_that_is_taken_on_another_address_is_passed_over() -> None:
    ports = free_ports(3)
    with socket.socket() as other:
        other.bind(("127.0.0.2", ports[1]))
        assert sorted(free_ports(2, among=ports)) == sorted([ports[0], ports[2]])
        with pytest.raises(RuntimeError, match="wanted 3 free ports, found"):
            free_ports(3, among=ports)


def test_no_connection_is_given_a_port_that_was_chosen() -> None:
    assert quiet_ports("32768\t60999\n") == [*range(20_000, 32_768), *range(61_000, 65_536)]
    assert quiet_ports("1024 65535") == list(range(20_000, 65_536))
