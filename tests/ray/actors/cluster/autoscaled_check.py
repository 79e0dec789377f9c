"""Reserves seats on a cluster whose autoscaler has still to bring the nodes, and prints what
happened as JSON, behind what a run would print.

Ray's own autoscaler runs on the head; its provider starts raylets on this machine, whose GPUs are
not there. Run by test_autoscaler.py in a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)

from actors.cluster import placement
from actors.cluster.nodes import nodes_there, nodes_to_come
from actors.cluster.placement import Placement
from actors.cluster.plan import plan_of
from actors.cluster.seats import deal, seats_of
from rl.jobs.generate import actor_options
from tests.e2e.head import free_ports
from tests.ray.actors.cluster.placement_check import Where, recipe
from tests.waiting import wait_until

_PATIENCE_S = 180.0
_KINDS = {
    FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 3}, "node_config": {}, "max_workers": 0},
    "fixed": {
        "resources": {"CPU": 4, "GPU": 2, "on_demand": 2},
        "node_config": {},
        "max_workers": 2,
    },
    "spot": {"resources": {"CPU": 2, "GPU": 1, "spot": 1}, "node_config": {}, "max_workers": 4},
}

_LISTS = (
    *("cluster_synced_files", "initialization_commands", "setup_commands"),
    *("head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)


@contextmanager
def autoscaled_head(folder: Path) -> Iterator[Path]:
    """A head alone, joined by this process; yields its cluster's file, as `ray up` leaves it."""
    port, *others = free_ports(4)
    file = folder / "cluster.yaml"
    provider = {
        # By its own name Ray looks for a file of defaults, which its packages do not bring.
        "type": "external",
        "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
        "gcs_address": f"{ray.util.get_node_ip_address()}:{port}",
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
    }
    file.write_text(
        json.dumps(
            {
                "cluster_name": "autoscaled",
                "max_workers": 5,
                "idle_timeout_minutes": 0.1,
                "upscaling_speed": 100,
                "provider": provider,
                "head_node_type": FAKE_HEAD_NODE_TYPE,
                "available_node_types": _KINDS,
                "auth": {},
                "file_mounts": {},
                **{key: [] for key in _LISTS},
            }
        )
    )
    ports = ("dashboard-agent-listen-port", "metrics-export-port", "ray-client-server-port")
    words = [f"--{name}={number}" for name, number in zip(ports, others, strict=True)]
    words += [f"--port={port}", f"--autoscaling-config={file}", "--num-cpus=3", "--num-gpus=0"]
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", *words]
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            [*command, "--include-dashboard=false", "--disable-usage-stats"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    said = folder / "head.log"
    try:

        def up() -> bool:
            assert head.poll() is None, said.read_text()
            return "Ray runtime started" in said.read_text()

        wait_until(up, _PATIENCE_S, said.read_text)
        os.environ["RAY_ADDRESS"] = provider["gcs_address"]
        ray.init(address=provider["gcs_address"], log_to_driver=False)
        yield file
        ray.shutdown()
    finally:
        own = psutil.Process(head.pid)
        for process in [*own.children(recursive=True), own]:
            process.kill()


def kinds() -> Counter[str]:
    """The nodes that are there, by what only their kind has."""
    marks = {"on_demand": "fixed", "spot": "spot"}
    return Counter(
        next((kind for mark, kind in marks.items() if mark in node), "head")
        for node in nodes_there()
    )


def kind_of(actor: Any) -> str:
    """The kind of node that an actor sits on, once it does."""
    node = ray.get(actor.node.remote(), timeout=_PATIENCE_S)
    resources = next(each["Resources"] for each in ray.nodes() if each["NodeID"] == node)
    return "fixed" if "on_demand" in resources else "spot" if "spot" in resources else "head"


def main(folder: Path) -> None:
    """A run's seats, one engine more than they are, and nobody at last."""
    placement.TOLD_EVERY_S = 0.5
    told: dict[str, Any] = {}
    with autoscaled_head(folder) as file:
        run = recipe(
            "autoscaled",
            rollout={"workers": 2, "max_workers": 3},
            learner={"ranks": 2},
            cluster={
                "reserve_timeout_s": _PATIENCE_S,
                "resources": {"learner": {"on_demand": 1}, "rollout": {"spot": 1}},
            },
        )
        plan = plan_of(run, {})
        told["first"] = kinds()
        told["missing"] = {
            "now": deal(seats_of(plan), nodes_there()).missing,
            "later": deal(seats_of(plan), nodes_to_come(file)).missing,
        }
        seats = Placement(plan, run.name, run.cluster.reserve_timeout_s)
        sitting: dict[str, list[Any]] = {}
        for role, count in {"learner": 2, "rollout": 3, "reward": 1}.items():
            make = ray.remote(**actor_options(plan, role, {}))(Where)
            sitting[role] = [
                make.options(**seats.options_for(role, slot)).remote() for slot in range(count)
            ]
        told["sitting"] = {role: [kind_of(each) for each in sat] for role, sat in sitting.items()}
        told["during"] = kinds()
        for sat in sitting.values():
            for each in sat:
                ray.kill(each)
        seats.release()
        wait_until(lambda: not {"fixed", "spot"} & kinds().keys(), _PATIENCE_S)
        told["after"] = kinds()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as at:
        main(Path(at))
