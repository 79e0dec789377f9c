"""A real Prometheus that scrapes a head by the configuration that the project ships."""

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psutil

from rl.monitoring.dashboards import FOLDER, dashboard
from rl.monitoring.panels import DASHBOARDS
from tests.e2e.command import Place
from tests.e2e.head import Head, free_ports
from tests.waiting import wait_until

PROMETHEUS = shutil.which("prometheus")
STALLED_S = 8
"""Seconds without a step that the alert waits for here, in place of half an hour."""


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    address: str

    def ask(self, what: str, **words: Any) -> Any:
        """`data` of an answer of its API."""
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=10) as page:
            return json.load(page)["data"]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return urllib.request.urlopen(f"{self.address}/-/ready", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def firing(self) -> dict[str, float]:
        """Alerts that fire now, by the Unix time since when."""
        alerts = self.ask("alerts")["alerts"]
        return {
            each["labels"]["alertname"]: datetime.fromisoformat(each["activeAt"]).timestamp()
            for each in alerts
            if each["state"] == "firing"
        }

    def panels_without_data(self, since: float) -> list[str]:
        """Panels of the dashboards with a query that returned no number in all that time."""
        return [
            f"{name}: {panel['title']}: {target['expr']}"
            for name in DASHBOARDS
            for panel in dashboard(name)["panels"]
            for target in panel["targets"]
            if not self._has_data(target["expr"], since)
        ]

    def _has_data(self, expression: str, since: float) -> bool:
        filled = expression.replace("$__rate_interval", "15s").replace("$run", ".*")
        told = self.ask("query_range", query=filled, start=since, end=time.time(), step=1)
        values = (float(value) for series in told["result"] for _, value in series["values"])
        return any(map(math.isfinite, values))

    def alert_of_a_stalled_run(self, driver: psutil.Process) -> float:
        """Hold the driver up until `NoStep` fires, let it go on; seconds from hold to alert."""
        wait_until(lambda: "NoStep" not in self.firing(), 120, every_s=0.5)
        driver.suspend()
        held = time.time()
        try:
            wait_until(lambda: "NoStep" in self.firing(), 60, every_s=0.5)
        finally:
            driver.resume()
        return self.firing()["NoStep"] - held


@contextmanager
def watching(head: Head, place: Place) -> Iterator[Prometheus | None]:
    """Prometheus by configs/grafana, but by the second and of this head; None: none is here."""
    if PROMETHEUS is None:
        yield None
        return
    folder = place.folder / "prometheus"
    folder.mkdir(parents=True)
    config = (FOLDER / "prometheus.yml").read_text("utf-8")
    config = config.replace("/tmp/ray/", f"{head.folder}/").replace("10s", "1s")
    assert str(head.folder) in config
    (folder / "prometheus.yml").write_text(config)
    alerts = (FOLDER / "alerts.yml").read_text("utf-8")
    shorter, replaced = re.subn(r"> 1800\b", f"> {STALLED_S}", alerts)
    assert replaced == 1
    (folder / "alerts.yml").write_text(shorter)
    (port,) = free_ports(1)
    command = [PROMETHEUS, f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(server.is_ready, 60, lambda: (folder / "log").read_text("utf-8"))
        yield server
    finally:
        process.kill()
        process.wait(30)
