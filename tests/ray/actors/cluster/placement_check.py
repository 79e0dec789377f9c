"""Reserves seats on two nodes with GPUs that are not there; run by test_seats.py on its own, since
a process can be in one Ray cluster only. Prints what happened as JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from actors.cluster import placement as seats
from actors.cluster.placement import Placement
from configs.schema.grpo import GRPORecipe
from rl.console.errors import DoesNotFit


def recipe(name: str, **sections: Any) -> GRPORecipe:
    """A run whose only reward worker takes one core."""
    fields: dict[str, Any] = {
        "name": name,
        "data": {"source": "digits"},
        "policy": {"path": "somewhere"},
        "reward": {"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 1, "processes": 1},
    }
    return GRPORecipe.model_validate(fields | sections)


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
    seats.PATIENCE_S = 2.0
    wide = {"rollout": {"workers": 1, "tensor_parallel_size": 2}, "learner": {"ranks": 2}}
    first = Placement(recipe("first", **wide), "cuda")
    told: dict[str, Any] = {"first": nodes_of("first")}
    second = recipe("second", rollout={"workers": 1}, learner={"ranks": 1})
    told["second"] = refusal(lambda: Placement(second, "cuda"))
    first.release()
    Placement(second, "cuda").release()
    over = recipe("over", rollout={"workers": 1, "tensor_parallel_size": 3})
    told["over"] = refusal(lambda: Placement(over, "cuda"))
    pairs = recipe(
        "pairs",
        rollout={"workers": 4, "gpu_memory_utilization": 0.4},
        learner={"ranks": 4},
        sync={"shared_gpu": True},
    )
    shared = Placement(pairs, "cuda")
    told["pairs"] = [
        shared.options_for(role, 3)["scheduling_strategy"].placement_group_bundle_index
        for role in ("rollout", "learner")
    ]
    json.dump(told, sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
