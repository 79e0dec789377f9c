"""Ray for the time of a run, and how many threads its processes on a CPU machine get.

Apart from the actors themselves, so that a job starts without importing those that it does not use.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a run: the cluster that RAY_ADDRESS names (`ray job submit` sets it), or
    one on this machine that ends with the run, without the dashboard, which takes a small machine's
    cores for a minute (`ray start --head` brings one)."""
    address = os.environ.get("RAY_ADDRESS", "local")
    local = address == "local"
    environment: dict[str, Any] = {
        "worker_process_setup_hook": "actors.cluster.ray_session.collect_garbage_seldom"
    }
    if local:
        environment["env_vars"] = {"PYTHONPATH": str(_ROOT)}
    ray.init(
        address=address,
        log_to_driver=False,
        runtime_env=environment,
        include_dashboard=False if local else None,
    )
    try:
        yield
    finally:
        ray.shutdown()


def collect_garbage_seldom() -> None:
    """Let Python look for cycles of dead objects more seldom, in each Ray worker.

    It would go through the objects that imports make again and again, a tenth to a sixth of the
    time that vLLM and torch take to be imported.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
