"""Ray for the time of a run, and how many threads its processes on a CPU machine get.

Apart from the actors themselves, so that a job starts without importing those that it does not use.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

_ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a run: the cluster that RAY_ADDRESS names (`ray job submit` sets it), or
    one on this machine that ends with the run, without the dashboard, which takes a small machine's
    cores for a minute (`ray start --head` brings one)."""
    address = os.environ.get("RAY_ADDRESS", "local")
    local = address == "local"
    environment = {"env_vars": {"PYTHONPATH": str(_ROOT)}} if local else None
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


def thread_variables(share: int, threads: int | None = None) -> dict[str, str]:
    """Environment of a process on a CPU machine that gets `threads`; None: the machine's cores
    divided among `share` processes.

    Ray would give an actor that reserves no core a single thread. Threads that spin while they wait
    make a step ten times slower as soon as anything else wants a core.
    """
    threads = threads or max(1, (os.cpu_count() or 1) // share)
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
