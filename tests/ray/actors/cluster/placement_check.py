"""Reserves seats on nodes with GPUs that are not there, and prints what happened as JSON, behind
what a run would print.

Run by test_placement.py in a process of its own, which can be in one Ray cluster only.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.cluster import placement
from actors.cluster.placement import Placement
from actors.cluster.plan import plan_of
from configs.jobs.grpo import GRPORecipe
from rl.console.errors import DoesNotFit
from tests.waiting import wait_until


def recipe(name: str, **sections: Any) -> GRPORecipe:
    """A run whose only reward worker takes two cores."""
    fields: dict[str, Any] = {
        "name": name,
        "device": "cuda",
        "data": {"source": "digits"},
        "policy": {"path": "somewhere"},
        "cluster": {"reserve_timeout_s": 3.0},
        "reward": {"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 1, "processes": 2},
    }
    return GRPORecipe.model_validate(fields | sections)


def reserve(recipe: GRPORecipe) -> Placement:
    """Seats for all that the recipe asks for, waited for as long as it says."""
    return Placement(plan_of(recipe, {}), recipe.name, recipe.cluster.reserve_timeout_s)


def refusal(reserve: Callable[[], object]) -> str:
    """What a reservation that is refused says."""
    try:
        reserve()
    except DoesNotFit as error:
        return str(error)
    return "not refused"


class Where:
    """An actor that says on which node it sits."""

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def sit(seats: Placement, counts: dict[str, int], names: dict[str, str]) -> dict[str, list[str]]:
    """Start an actor on each seat, as a run does, and say on which node each sits; then end them
    and wait until nobody holds anything: the next case wants all of it."""
    sitting = {
        role: [
            ray.remote(num_cpus=1)(Where).options(**seats.options_for(role, slot)).remote()
            for slot in range(count)
        ]
        for role, count in counts.items()
    }
    found = {
        role: [names[ray.get(each.node.remote(), timeout=120)] for each in actors]
        for role, actors in sitting.items()
    }
    for actors in sitting.values():
        for each in actors:
            ray.kill(each)
    seats.release()
    wait_until(all_is_free, 60, lambda: str(ray.available_resources()))
    return found


def all_is_free() -> bool:
    """Whether what the cluster has is there for whoever asks."""
    free, there = ray.available_resources(), ray.cluster_resources()
    return all(free.get(name) == there.get(name) for name in ("CPU", "GPU"))


def main() -> None:
    """A head without GPUs, and nodes of two GPUs each."""
    placement.TOLD_EVERY_S = 0.5
    head = {"num_cpus": 5, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=6, num_gpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    told: dict[str, Any] = {}
    names = {node.node_id: name for node, name in zip(nodes, "AB", strict=True)}
    names[cluster.head_node.node_id] = "head"

    apart = {"rollout": {"workers": 2}, "learner": {"ranks": 2}}
    first = reserve(recipe("first", **apart))
    second = recipe("second", rollout={"workers": 1}, learner={"ranks": 1})
    told["second"] = refusal(lambda: reserve(second))
    roles = {"learner": 2, "rollout": 2, "reward": 1}
    told["first"] = sit(first, roles, names)
    told["again"] = sit(reserve(recipe("first", **apart)), roles, names)  # as a run that restarts
    told["after"] = sit(reserve(second), {"learner": 1, "rollout": 1, "reward": 1}, names)

    shared = recipe(
        "pairs",
        rollout={"workers": 4, "gpu_memory_utilization": 0.4},
        learner={"ranks": 4},
        sync={"shared_gpu": True},
    )
    pairs = reserve(shared)
    told["pairs"] = [
        pairs.options_for(role, 3)["scheduling_strategy"].placement_group_bundle_index
        for role in ("rollout", "learner")
    ]
    told["beside"] = sit(pairs, {"learner": 4, "rollout": 4}, names)

    wide = {"rollout": {"workers": 2, "tensor_parallel_size": 2}, "learner": {"ranks": 2}}
    later = recipe("later", **wide, cluster={"reserve_timeout_s": 120.0})
    had: list[Placement] = []
    waiting = threading.Thread(target=lambda: had.append(reserve(later)))
    waiting.start()
    time.sleep(3)
    nodes.append(cluster.add_node(num_cpus=6, num_gpus=2))
    waiting.join()
    names[nodes[-1].node_id] = "C"
    told["later"] = sit(had[0], roles, names)
    told["spread"] = sit(reserve(recipe("spread", **apart)), roles, names)
    json.dump(told, sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
