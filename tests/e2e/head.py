"""A Ray head of one's own, as `ray start --head` makes it, on ports and in folders of its own."""

import json
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from ray.util import get_node_ip_address

from tests.e2e.command import BIN, ROOT, Place
from tests.waiting import wait_until

_PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "ray-client-server-port",
    "metrics-export-port",
)


_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def quiet_ports(connections: str) -> list[int]:
    """Ports above those of Ray's workers that Linux gives to no connection; all of them where it
    gives away nearly every one. `connections`: its lowest and highest, as the kernel tells them.

    A head binds its ports seconds after they were chosen: by then a connection could have got one.
    """
    lowest, highest = (int(number) for number in connections.split())
    whole = range(20_000, 65_536)
    quiet = [port for port in whole if not lowest <= port <= highest]
    return quiet if len(quiet) > 1000 else list(whole)


def free_ports(count: int, among: Sequence[int] | None = None) -> list[int]:
    """Different ports that nobody uses now, on any address of this machine."""
    among = among or quiet_ports(_CONNECTIONS.read_text("utf-8"))
    found: list[int] = []
    for port in random.sample(among, len(among)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"wanted {count} free ports, found {found}")


@dataclass(frozen=True)
class Head:
    """A running head."""

    address: str
    """The cluster's, for drivers."""
    dashboard: str
    metrics: str
    folder: Path
    environment: dict[str, str]

    def figures(self) -> str:
        """What the node's Prometheus endpoint shows now; empty before it answers."""
        try:
            with urllib.request.urlopen(self.metrics, timeout=5) as page:
                return page.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    def answers(self) -> bool:
        """True when jobs can be submitted."""
        asked = urllib.request.Request(f"{self.dashboard}/api/version", headers=self._token)
        try:
            with urllib.request.urlopen(asked, timeout=5) as page:
                return page.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def submit(self, script: str, words: list[str], place: Place) -> "subprocess.Popen[bytes]":
        """`ray job submit --working-dir . -- python rl/script words`; its log bears its name."""
        command = [BIN / "ray", "job", "submit", "--address", self.dashboard]
        command += ["--working-dir", ".", "--", "python", f"rl/{script}", *words]
        with place.log(script).open("wb") as out:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )

    def actors(self) -> dict[str, str]:
        """Names of the actors that live, and what the dashboard shows beside them."""
        url = f"{self.dashboard}/api/v0/actors?detail=1&filter_keys=state&filter_predicates=%3D"
        asked = urllib.request.Request(f"{url}&filter_values=ALIVE", headers=self._token)
        with urllib.request.urlopen(asked, timeout=30) as page:
            found = json.load(page)["data"]["result"]["result"]
        return {each["name"]: each["repr_name"] for each in found}

    def timeline(self) -> set[str]:
        """Names of all spans in `ray timeline`."""
        file = self.folder / "timeline.json"
        asked = f"import ray; ray.init({self.address!r}); ray.timeline({str(file)!r})"
        subprocess.run([BIN / "python", "-c", asked], env=self.environment, check=True)
        return {event["name"] for event in json.loads(file.read_text("utf-8"))}

    @property
    def _token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}

    def status_for_strangers(self) -> int:
        """HTTP's status where jobs are asked for without the token."""
        try:
            with urllib.request.urlopen(f"{self.dashboard}/api/jobs/", timeout=30) as page:
                return page.status
        except urllib.error.HTTPError as error:
            return error.code

    def listens_at(self) -> set[str]:
        """Addresses at which the dashboard, and with it the job port, can be reached."""
        port = urlsplit(self.dashboard).port
        open_here = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        return {own.laddr.ip for own in open_here if own.laddr.port == port}

    def uploaded(self) -> list[str]:
        """Top-level names of the working directory as it arrived."""
        packages = self.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
        (package,) = (path for path in packages if path.is_dir())
        return sorted(path.name for path in package.iterdir())


@contextmanager
def ray_head(place: Place) -> Iterator[Head]:
    """`ray start --head`, ended with all that it started; other clusters are left alone."""
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    folder = Path(tempfile.mkdtemp(prefix="r1v"))  # sockets below it want a short name
    options = [f"--{name}={port}" for name, port in ports.items()]
    options += ["--num-cpus=2", f"--temp-dir={folder}", "--disable-usage-stats"]
    environment = place.environment() | {
        # A head takes whatever token it finds in the user's home; jobs must then be told of it.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_PROFILING": "1",
        "RAY_worker_niceness": "0",
    }
    place.folder.mkdir(parents=True, exist_ok=True)
    with place.log("head").open("wb") as out:
        process = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", *options],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    head = Head(
        address=f"{get_node_ip_address()}:{ports['port']}",
        dashboard=f"http://127.0.0.1:{ports['dashboard-port']}",
        metrics=f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
        folder=folder,
        environment=environment,
    )

    def is_up() -> bool:
        assert process.poll() is None, place.said("head")
        return head.answers()

    try:
        wait_until(is_up, 180, lambda: place.said("head"))
        yield head
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill everything at once: left to itself a head takes half a minute to end."""
    head = psutil.Process(process.pid)
    everything = [head, *head.children(recursive=True)]
    for each in everything:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(60)
    psutil.wait_procs(everything[1:], timeout=20)
