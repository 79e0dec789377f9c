"""Which interface an address belongs to."""

import os
import socket

import pytest

from actors.cluster import network
from actors.cluster.network import interface_of, meet_at_own_address


def test_an_address_of_this_machine_is_found_on_its_interface() -> None:
    assert interface_of("127.0.0.1") in {name for _, name in socket.if_nameindex()}
    assert interface_of("192.0.2.254") is None


@pytest.mark.parametrize(("asked", "used"), [(None, "lan"), ("vpn", "vpn")])
def test_gloo_meets_at_the_node_s_own_interface_unless_the_user_named_another(
    asked: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "interface_of", lambda _: "lan")
    monkeypatch.setattr(network.ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    # So that what is set is taken back behind the test.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", asked or "")
    if asked is None:
        del os.environ["GLOO_SOCKET_IFNAME"]
    meet_at_own_address()
    assert os.environ["GLOO_SOCKET_IFNAME"] == used
