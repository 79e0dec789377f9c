"""A Ray cluster of several nodes on one machine, each with an address of its own.

Where the machine allows it, each node is a network namespace, and a bridge joins them: at 127.0.0.1
no node hears another. Elsewhere each is a raylet at a loopback address of its own.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.e2e.head import free_ports
from tests.repository import ROOT
from tests.waiting import wait_until

BIN = Path(sys.executable).parent
NAMESPACES = ("unshare", "--fork", "--pid", "--mount-proc", "--net", "--kill-child")
"""What a script that makes nodes is run by: all that it starts and makes ends with it."""
_PROBE = "ip link add probe type veth peer name eborp && ip link add bridge type bridge"
_OWN_FOLDER = 'mkdir -p "$0" /tmp/ray && mount --bind "$0" /tmp/ray && exec "$@"'
_PATIENCE_S = 180.0
_MOST = 9


def namespaces() -> tuple[str, ...]:
    """NAMESPACES; nothing where this machine has not what nodes apart need."""
    if not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return ()
    probe = [*NAMESPACES, "sh", "-c", _PROBE]
    return NAMESPACES if subprocess.run(probe, capture_output=True).returncode == 0 else ()


@dataclass
class Node:
    """A node, and `ray start` on it."""

    address: str
    enter: Sequence[str]
    """What a command on this node is run by."""
    ray: "subprocess.Popen[bytes]"
    processes: list[psutil.Process] = field(default_factory=list)
    """Those that were there when it was lost."""


@dataclass
class Nodes:
    """The cluster; the first node is its head."""

    folder: Path
    apart: bool
    """As network namespaces."""
    nodes: dict[str, Node] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def address(self) -> str:
        """The cluster's, for RAY_ADDRESS."""
        return f"{self.address_of(0)}:{self.port}"

    def address_of(self, number: int) -> str:
        """The address of each node, by its place."""
        return f"10.77.0.{number + 2}" if self.apart else f"127.0.77.{number + 2}"

    def start(self, name: str, *seats: str) -> None:
        """Bring a node for the actors called `seats`, each a role and a number: rollout-0."""
        address = self.address_of(len(self.nodes))
        enter: list[str] = []
        if self.apart:
            _add_namespace(name, address)
            enter = ["ip", "netns", "exec", name, "sh", "-c", _OWN_FOLDER]
            enter.append(str(self.folder / f"ray_{name}"))  # as if on a disk of its own
        labels = ",".join(f"{seat}=yes" for seat in seats)
        words = [f"--node-ip-address={address}", f"--labels={labels}", "--disable-usage-stats"]
        words += ["--object-store-memory=100000000", "--block"]
        own = ("dashboard-agent-listen-port", "metrics-export-port", "ray-client-server-port")
        ports = zip(own, free_ports(3), strict=True)
        words += [f"--{of}={port}" for of, port in ports if of != own[2] or not self.nodes]
        if not self.nodes:  # what no seat is for, such as making the start policy, is done here
            words += ["--head", f"--port={self.port}", "--include-dashboard=false", "--num-cpus=2"]
        else:
            words += [f"--address={self.address}", "--num-cpus=0"]
        ray = self.spawn([*enter, str(BIN / "ray"), "start", *words], f"node_{name}")
        self.nodes[name] = Node(address, enter, ray)
        said = self.folder / f"node_{name}.log"

        def up() -> bool:
            assert ray.poll() is None, said.read_text()
            return "Ray runtime started" in said.read_text()

        wait_until(up, _PATIENCE_S, said.read_text)

    def spawn(self, words: Sequence[str], log: str) -> "subprocess.Popen[bytes]":
        """A process of this cluster's, its output in a file."""
        with (self.folder / f"{log}.log").open("wb") as out:
            return subprocess.Popen(
                words, cwd=ROOT, env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )

    def on_head(self, words: Sequence[str], log: str) -> "subprocess.Popen[bytes]":
        """A command on the first node."""
        head = next(iter(self.nodes.values()))
        return self.spawn([*head.enter, *words], log)

    def kill_raylet(self, name: str) -> None:
        """End the process that a node is to the others; its actors find out by themselves."""
        for process in psutil.Process(self.nodes[name].ray.pid).children():
            if process.name() == "raylet":
                process.kill()

    def unplug(self, name: str) -> None:
        """Let a node fall silent: nobody is told, and no connection is closed."""
        node = self.nodes[name]
        node.processes = psutil.Process(node.ray.pid).children(recursive=True)
        if self.apart:
            subprocess.run(["ip", "link", "set", _cable(name), "down"], check=True)
        else:
            _each(node.processes, "suspend")

    def bury(self, name: str) -> None:
        """End what still runs on a node that was unplugged."""
        _each(self.nodes[name].processes, "kill")

    def where(self, actor: str) -> list[str]:
        """The nodes that have an actor of this class, one for each."""
        found: list[str] = []
        for name, node in self.nodes.items():
            with suppress(psutil.Error):
                below = psutil.Process(node.ray.pid).children(recursive=True)
                found += [name for process in below if titled(process, f"ray::{actor}")]
        return found


def titled(process: psutil.Process, beginning: str) -> bool:
    """Whether a process that lives calls itself so."""
    with suppress(psutil.Error):
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and " ".join(process.cmdline()).startswith(beginning)
    return False


def _each(processes: Sequence[psutil.Process], method: str) -> None:
    for process in processes:
        with suppress(psutil.Error):
            getattr(process, method)()


@contextmanager
def cluster_of_nodes(folder: Path, apart: bool) -> Iterator[Nodes]:
    """A cluster without nodes yet. Where they are `apart`, this must run by `NAMESPACES`."""
    nodes = Nodes(folder, apart)
    nodes.environment = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "PYTHONPATH": str(ROOT),
        "RAY_ADDRESS": nodes.address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
        # A silent node counts as lost after so many of these in a row.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
    }
    if apart:
        _bridge()
        _names(folder, [nodes.address_of(number) for number in range(_MOST)])
    try:
        yield nodes
    finally:
        for node in nodes.nodes.values():
            with suppress(psutil.Error):
                own = psutil.Process(node.ray.pid)
                _each([*own.children(recursive=True), own, *node.processes], "kill")


def _bridge() -> None:
    """A switch that nodes are plugged into."""
    Path("/run/netns").mkdir(exist_ok=True)
    for command in (
        "mount -t tmpfs none /run/netns",  # names that others on this machine do not see
        "ip link set lo up",
        "ip link add switch type bridge",
        "ip link set switch up",
        "ip addr add 10.77.0.1/24 dev switch",
    ):
        subprocess.run(command.split(), check=True)


def _names(folder: Path, addresses: Sequence[str]) -> None:
    """Names of the addresses, each host calling itself 127.0.1.1 as Debian does. There is no name
    server, which look-ups would wait for."""
    hosts = ["127.0.0.1 localhost", f"127.0.1.1 {socket.gethostname()}"]
    hosts += [f"{address} node-{address.replace('.', '-')}" for address in addresses]
    for name, lines in (("hosts", hosts), ("resolv.conf", [])):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
        subprocess.run(["mount", "--bind", folder / name, f"/etc/{name}"], check=True)


def _cable(name: str) -> str:
    return f"to_{name}"


def _add_namespace(name: str, address: str) -> None:
    """A namespace on the switch."""
    cable = _cable(name)
    for command in (
        f"ip netns add {name}",
        f"ip link add {cable} type veth peer name eth0 netns {name}",
        f"ip link set {cable} master switch up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} addr add {address}/24 dev eth0",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} route add default via 10.77.0.1",
    ):
        subprocess.run(command.split(), check=True)
