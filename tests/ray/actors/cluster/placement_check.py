"""Reserves bundles on two nodes with GPUs that are not there, and prints what happened as JSON.

Run by test_placement.py in a process of its own, which can be in one Ray cluster only.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from actors.cluster.placement import Placement
from actors.cluster.plan import plan_of
from configs.jobs.grpo import GRPORecipe
from rl.console.errors import DoesNotFit


def recipe(name: str, **sections: Any) -> GRPORecipe:
    """A run whose only reward worker takes one core."""
    fields: dict[str, Any] = {
        "name": name,
        "device": "cuda",
        "data": {"source": "digits"},
        "policy": {"path": "somewhere"},
        "cluster": {"reserve_timeout_s": 2.0},
        "reward": {"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 1, "processes": 1},
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


def nodes_of(name: str) -> dict[int, str]:
    """The node of each bundle of a reservation."""
    tables = placement_group_table().values()
    return next(t["bundles_to_node_id"] for t in tables if t["name"] == name)


def main() -> None:
    """Two nodes, two GPUs each."""
    head = {"num_cpus": 5, "num_gpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=4, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    wide = {"rollout": {"workers": 1, "tensor_parallel_size": 2}, "learner": {"ranks": 2}}
    first = reserve(recipe("first", **wide))
    told: dict[str, Any] = {"first": nodes_of("first")}
    second = recipe("second", rollout={"workers": 1}, learner={"ranks": 1})
    told["second"] = refusal(lambda: reserve(second))
    first.release()
    reserve(recipe("first", **wide)).release()  # as a run that starts its actors again
    reserve(second).release()
    over = recipe("over", rollout={"workers": 1, "tensor_parallel_size": 3})
    told["over"] = refusal(lambda: reserve(over))
    pairs = recipe(
        "pairs",
        rollout={"workers": 4, "gpu_memory_utilization": 0.4},
        learner={"ranks": 4},
        sync={"shared_gpu": True},
    )
    shared = reserve(pairs)
    told["pairs"] = [
        shared.options_for(role, 3)["scheduling_strategy"].placement_group_bundle_index
        for role in ("rollout", "learner")
    ]
    json.dump(told, sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
