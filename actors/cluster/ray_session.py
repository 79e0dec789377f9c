"""Ray for the time of a run, and how many threads its processes on a CPU machine get.

Apart from the actors themselves, so that a job starts without importing those that it does not use.
"""

import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from actors.cluster.network import meet_at_own_address
from rl.console.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]


class NoCluster(UserError):
    """No Ray answers at the address."""


_NO_CLUSTER = (
    "no Ray cluster answers at RAY_ADDRESS={}: start one (`ray start --head`, `ray up cluster.yaml`"
    "), correct the address, or unset RAY_ADDRESS to run on this machine alone"
)
_PATIENCE_S = 10.0


def check_answers(address: str, patience_s: float) -> None:
    """Nothing where something listens at `address`, or where it is no host:port.

    Ray itself tries for minutes, and says so in its own log lines only.

    Raises:
        NoCluster: nothing does within `patience_s` seconds.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    until = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=patience_s).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise NoCluster(f"{_NO_CLUSTER.format(address)} ({error})") from error
        time.sleep(0.5)


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a run: the cluster that RAY_ADDRESS names (`ray job submit` sets it), or
    one on this machine that ends with the run, without the dashboard, which takes a small machine's
    cores for a minute (`ray start --head` brings one).

    Raises:
        NoCluster: none answers where RAY_ADDRESS says.
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    local = address == "local"
    environment: dict[str, Any] = {
        "worker_process_setup_hook": "actors.cluster.ray_session.set_up_worker"
    }
    if local:
        # Ray gives workers the least of a busy machine's time (niceness 15), so that a node stays
        # within reach. Here a run would stand still beside a build.
        os.environ.setdefault("RAY_worker_niceness", "0")
        environment["env_vars"] = {"PYTHONPATH": str(_ROOT)}
    check_answers(address, _PATIENCE_S)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            runtime_env=environment,
            include_dashboard=False if local else None,
        )
    except ConnectionError as error:
        raise NoCluster(f"{_NO_CLUSTER.format(address)} ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def set_up_worker() -> None:
    """What each Ray worker does first: it meets others at its node's address, and lets Python look
    for cycles of dead objects more seldom.

    It would go through the objects that imports make again and again, a tenth to a sixth of the
    time that vLLM and torch take to be imported.
    """
    meet_at_own_address()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
