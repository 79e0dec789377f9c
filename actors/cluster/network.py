"""By which of a node's addresses its processes meet others."""

import fcntl
import os
import socket
import struct
from contextlib import suppress

import ray

_ADDRESS_OF_INTERFACE = 0x8915
"""Linux's SIOCGIFADDR."""


def interface_of(address: str) -> str | None:
    """The network interface that has the IPv4 `address`; None: none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                asked = struct.pack("256s", name.encode())
                found = fcntl.ioctl(probe, _ADDRESS_OF_INTERFACE, asked)[20:24]
                if socket.inet_ntoa(found) == address:
                    return name
    return None


def meet_at_own_address() -> None:
    """Let gloo listen where Ray reaches this node, unless GLOO_SOCKET_IFNAME says otherwise.

    It would take the address that the host's name stands for. That is 127.0.1.1 on Debian, where
    no other node can come, and every rank would be told to meet itself.
    """
    interface = interface_of(ray.util.get_node_ip_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
