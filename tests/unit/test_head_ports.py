"""Ports for a Ray head in tests: chosen seconds before they are bound, and still free by then."""

import socket
from pathlib import Path

import pytest

from tests.e2e.head import free_ports


def test_a_port_that_is_taken_on_another_address_is_passed_over() -> None:
    ports = free_ports(3)
    with socket.socket() as other:
        other.bind(("127.0.0.2", ports[1]))
        assert sorted(free_ports(2, among=ports)) == sorted([ports[0], ports[2]])
        with pytest.raises(RuntimeError, match="wanted 3 free ports, found"):
            free_ports(3, among=ports)


def test_no_connection_is_given_a_port_that_was_chosen() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("utf-8").split()[0])
    assert all(19_999 < port < lowest for port in free_ports(50))
