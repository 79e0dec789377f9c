"""The machine that a plan is held to: the one that a recipe names, or the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from actors.cluster.plan import Plan, Recipe
from actors.cluster.seats import Node
from configs.schema.run import MachineConfig

_GIB = 2**30
_UNSAID = 10**6
"""What a node has of cores, or of resources of the recipe's own, where nobody says how much."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Nodes, and what of their memory is known."""

    nodes: tuple[Node, ...] | None
    """What each has, by Ray's names; None: not known."""
    gpu_gib: float | None
    """Memory of a GPU; None: not known."""
    host_gib: float | None
    """Memory of the smallest node, of those with GPUs if there are any; None: not known."""

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Machine":
        """The one that the recipe is written for."""
        nodes = _stated(recipe.cluster)
        return cls(nodes, _gpu_memory(recipe), recipe.cluster.memory_per_node_gib)

    @classmethod
    def of_cluster(cls, recipe: Recipe, nodes: Sequence[Node]) -> "Machine":
        """The cluster's `nodes`, those included that may still come; what they do not tell, the
        recipe does."""
        stated = (_stated(recipe.cluster) or ()) if recipe.cluster.autoscaled else ()
        gpus = stated[0]["GPU"] if stated else 0.0
        there = sum(node.get("GPU", 0.0) >= gpus for node in nodes)
        working = [node for node in nodes if node.get("GPU")] or nodes
        told = [_memory(node) for node in working if "memory" in node]
        host = recipe.cluster.memory_per_node_gib or min(told, default=None)
        return cls((*nodes, *stated[there:]), _gpu_memory(recipe), host)

    def on(self, plan: Plan) -> "Machine":
        """Without GPUs' memory where the plan has no use for it."""
        return self if plan.device == "cuda" else Machine(self.nodes, None, self.host_gib)


def _stated(cluster: MachineConfig) -> tuple[Node, ...] | None:
    """The nodes that a recipe states; None: it does not."""
    if cluster.gpus_per_node is None:
        return None
    cores = cluster.cpus_per_node or _UNSAID
    node = {"GPU": float(cluster.gpus_per_node), "CPU": float(cores)}
    named = {name: float(_UNSAID) for each in cluster.resources.values() for name in each}
    return ({**node, **named},) * cluster.nodes


def _memory(node: Node) -> float:
    """GiB: Ray divides a node's memory between workers and its object store."""
    return (node["memory"] + node.get("object_store_memory", 0.0)) / _GIB


def _gpu_memory(recipe: Recipe) -> float | None:
    """GiB of a GPU, as the recipe says, or of the smallest one here; None: there are none."""
    if recipe.cluster.gpu_memory_gib is not None:
        return recipe.cluster.gpu_memory_gib
    import torch

    count = torch.cuda.device_count()
    sizes = [torch.cuda.get_device_properties(i).total_memory / _GIB for i in range(count)]
    return min(sizes, default=None)
