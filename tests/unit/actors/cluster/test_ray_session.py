"""A run on a cluster begins only where one answers."""

import socket

import pytest

from actors.cluster import ray_session as session
from actors.cluster.ray_session import NoCluster, check_answers, ray_session


def test_an_address_that_nobody_answers_at_is_refused_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(session, "_PATIENCE_S", 0.0)
        told = rf"no Ray cluster answers at RAY_ADDRESS={address}: .*unset RAY_ADDRESS"
        with pytest.raises(NoCluster, match=told), ray_session():
            pass


def test_an_address_that_answers_and_addresses_without_a_port_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_answers(f"127.0.0.1:{server.getsockname()[1]}", 1.0)
    for address in ("local", "auto"):
        check_answers(address, 0.0)
