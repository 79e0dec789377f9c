"""The run's figures as gauges, which Ray's Prometheus endpoint shows."""

import re

from ray.util.metrics import Gauge


class Gauges:
    """One gauge a figure, made when it is first set: `r1v_reward{run="digits"} 0.7`."""

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._gauges: dict[str, Gauge] = {}

    def __call__(self, name: str, value: float) -> None:
        """Set the gauge of a figure. Needs a running Ray."""
        clean = "r1v_" + re.sub(r"[^a-zA-Z0-9]+", "_", name)
        if clean not in self._gauges:
            self._gauges[clean] = Gauge(clean, f"{name} of the newest step", tag_keys=("run",))
        self._gauges[clean].set(value, self._tags)
