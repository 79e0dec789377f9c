"""Reserves seats on nodes with GPUs that are not there, and prints what happened as JSON, behind
what a run would print.

Run by test_placement.py in a process of its own, which can be in one Ray cluster only.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.cluster import placement
from actors.cluster.placement import Placement
from actors.cluster.plan import Plan, plan_of
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


def shared(workers: int, tensor_parallel_size: int, cores: float = 1.0) -> GRPORecipe:
    """A run of four ranks whose GPUs engines share."""
    engines = {"workers": workers, "tensor_parallel_size": tensor_parallel_size}
    return recipe(
        "shared",
        rollout=engines | {"gpu_memory_utilization": 0.4},
        learner={"ranks": 4, "cpus_per_rank": cores},
        sync={"shared_gpu": True},
    )


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

    def gpus(self) -> list[str]:
        """Those that CUDA shows to it and to the processes that it starts."""
        return os.environ["CUDA_VISIBLE_DEVICES"].split(",")


def seated(seats: Placement, counts: dict[str, int], plan: Plan | None = None) -> dict[str, Any]:
    """An actor on each seat, as a run starts it; with the GPUs of the plan, if there is one."""
    return {
        role: [
            ray.remote(num_cpus=1, num_gpus=plan.role(role).gpus if plan else 0)(Where)
            .options(**seats.options_for(role, slot))
            .remote()
            for slot in range(count)
        ]
        for role, count in counts.items()
    }


def sit(seats: Placement, counts: dict[str, int], names: dict[str, str]) -> dict[str, list[str]]:
    """On which node the actor of each seat sits; then all is free again."""
    sitting = seated(seats, counts)
    found = {
        role: [names[ray.get(each.node.remote(), timeout=120)] for each in actors]
        for role, actors in sitting.items()
    }
    end(seats, sitting)
    return found


def share(asked: GRPORecipe, names: dict[str, str]) -> dict[str, list[Any]]:
    """On which node each rank and each engine sits, and which GPUs it sees."""
    seats, plan = reserve(asked), plan_of(asked, {})
    counts = {"learner": asked.learner.ranks, "rollout": asked.rollout.workers}
    sitting = seated(seats, counts, plan)
    found = {
        role: [
            [names[ray.get(each.node.remote(), timeout=120)], ray.get(each.gpus.remote())]
            for each in actors
        ]
        for role, actors in sitting.items()
    }
    end(seats, sitting)
    return found


def end(seats: Placement, sitting: dict[str, Any]) -> None:
    """End the actors and wait until nobody holds anything: the next case wants all of it."""
    for actors in sitting.values():
        for each in actors:
            ray.kill(each)
    seats.release()
    wait_until(all_is_free, 60, lambda: str(ray.available_resources()))


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

    told["pairs"] = share(shared(workers=4, tensor_parallel_size=1), names)
    told["two_nodes"] = share(shared(workers=2, tensor_parallel_size=2), names)

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

    nodes.append(cluster.add_node(num_cpus=14, num_gpus=4))
    names[nodes[-1].node_id] = "D"
    wanted = shared(workers=2, tensor_parallel_size=2, cores=3.0)  # seats of 7 cores: D's alone
    told["one_node"] = share(wanted, names)
    json.dump(told, sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
