"""A Ray head of one's own, as `ray start --head` makes it, on ports and in folders of its own."""

import secrets
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.command import BIN, ROOT, Place, wait_until

_PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "ray-client-server-port",
    "metrics-export-port",
)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody uses now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class Head:
    """A running head."""

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
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        asked = urllib.request.Request(f"{self.dashboard}/api/version", headers=token)
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
        dashboard=f"http://127.0.0.1:{ports['dashboard-port']}",
        metrics=f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
        folder=folder,
        environment=environment,
    )
    try:
        wait_until(head.answers, 180, lambda: place.said("head"))
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
