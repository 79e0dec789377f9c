"""Metrics at a node's endpoint: there for as long as their process, under the actor's own name."""

import time
import urllib.request
from typing import Any

import pytest
import ray

from actors.cluster.actor_names import NamedActor, actor_name
from actors.cluster.metrics import Metrics
from tests.waiting import wait_until

pytestmark = pytest.mark.ray


class Recorder(NamedActor):
    def __init__(self) -> None:
        self._metrics = Metrics()
        self._metrics.set("rollout_waiting_requests", 0)
        self._metrics.set("rollout_policy_version", 3)
        self._metrics.count("rollout_tokens", 24)
        self._metrics.observe("rollout_answer_tokens", 24)

    def told(self) -> str:
        return repr(self)


def shown() -> dict[str, float]:
    """This project's series at the node's endpoint, without Ray's own labels."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        name, brace, rest = line.partition("{")
        if name.startswith("ray_r1v_") and brace and 'run="recorded"' in rest:
            found[name] = float(rest.rpartition(" ")[2])
    return found


def started(slot: int) -> Any:
    name = actor_name("recorded", "rollout", slot)
    return ray.remote(num_cpus=0)(Recorder).options(name=name).remote()


def test_an_actor_is_called_after_its_run_and_role_and_so_is_who_replaces_it(
    cluster: None,
) -> None:
    first = started(1)
    assert ray.get(first.told.remote()) == "rollout-1 of recorded"
    ray.kill(first)
    second = started(1)
    assert ray.get(second.told.remote()) == "rollout-1 of recorded"
    ray.kill(second)


def test_a_gauge_that_was_set_once_stays_until_its_process_has_ended(cluster: None) -> None:
    actor = started(0)
    gauges = {"ray_r1v_rollout_waiting_requests": 0.0, "ray_r1v_rollout_policy_version": 3.0}
    wait_until(lambda: shown().items() >= gauges.items(), 60, shown, every_s=0.5)
    # Ray alone would drop them after two of its intervals of ten seconds.
    until = time.monotonic() + 25
    while time.monotonic() < until:
        assert shown().items() >= gauges.items()
        time.sleep(1)
    assert shown()["ray_r1v_rollout_tokens_total"] == 24
    assert shown()["ray_r1v_rollout_answer_tokens_count"] == 1
    ray.kill(actor)
    wait_until(lambda: not shown().keys() & gauges.keys(), 60, shown, every_s=0.5)
