"""Recording for Ray: metrics, at each node's Prometheus endpoint, and spans in its timeline."""

import threading
import time
import weakref
from contextlib import AbstractContextManager
from typing import Any

import ray
from ray._private import profiling  # Ray has no public name for spans
from ray.util.metrics import Counter, Gauge, Histogram

from actors.cluster.actor_names import own_name
from rl.monitoring.metrics import WORKER, Metric, metric, metric_of_figure

_AGAIN_EVERY_S = 1.0
"""Ray exports a gauge once for each time that it is set, and drops it when it is not set again for
two of its intervals (20 s by default): a figure of a step would be gone before the next step."""


class Metrics:
    """Metrics of one process by their names in `rl.monitoring.metrics`, made when they are first
    recorded; where Ray does not run nothing is. Gauges are shown for as long as this lives."""

    def __init__(self, run: str | None = None) -> None:
        """`run`: the run's name; None: the one that this actor's own name begins with."""
        own = own_name()
        self._labels = {"run": own.run if run is None else run, WORKER: own.worker}
        self._made: dict[str, Any] = {}
        self._gauges: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self._repeats = False

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name, frozenset(labels.items())] = value
        self._record(name, "set", value, labels)
        if not self._repeats and ray.is_initialized():
            self._repeats = True
            own = weakref.ref(self)
            threading.Thread(target=_set_again, args=(own,), daemon=True, name="gauges").start()

    def count(self, name: str, more: float, **labels: str) -> None:
        """Add to a counter."""
        if more:
            self._record(name, "inc", more, labels)

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        self._record(name, "observe", value, {})

    def show_figure(self, figure: str, value: float) -> None:
        """Set the gauge that shows a figure of metrics.jsonl."""
        name, labels = metric_of_figure(figure)
        self.set(name, value, **labels)

    def set_again(self) -> None:
        """Set every gauge to what it is."""
        for (name, labels), value in [*self._gauges.items()]:
            self._record(name, "set", value, dict(labels))

    def _record(self, name: str, how: str, value: float, labels: dict[str, str]) -> None:
        if not ray.is_initialized():
            return
        described = metric(name)
        if name not in self._made:
            self._made[name] = _made(described)
        known = self._labels | labels
        own = {label: known[label] for label in ("run", *described.labels)}
        getattr(self._made[name], how)(value, own)


def _set_again(reference: "weakref.ref[Metrics]") -> None:
    while ray.is_initialized() and (metrics := reference()) is not None:
        metrics.set_again()
        del metrics
        time.sleep(_AGAIN_EVERY_S)


def _made(described: Metric) -> Gauge | Counter | Histogram:
    told = f"{described.unit}: {described.description}" if described.unit else described.description
    labels = ("run", *described.labels)
    if described.kind == "histogram":
        return Histogram(described.name, told, list(described.bounds), labels)
    return (Gauge if described.kind == "gauge" else Counter)(described.name, told, labels)


def span(name: str) -> AbstractContextManager[object]:
    """A span of the driver's time under this name, in `ray timeline`, beside what its actors do;
    nothing is noted unless RAY_PROFILING=1 is set when the run starts."""
    return profiling.profile("driver", extra_data={"name": name})
