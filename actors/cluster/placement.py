"""Where the actors of a run sit: reserved together at the door, so that nobody waits for half."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.cluster.actor_names import actor_name
from actors.cluster.plan import Plan
from rl.console.errors import DoesNotFit
from rl.console.progress import phase

Bundle = dict[str, float]


class Placement:
    """On GPUs a seat for each actor: one bundle, which Ray never divides among nodes, so an engine
    has all its GPUs on one; where learner and engine share GPUs, rank i beside engine i."""

    def __init__(self, plan: Plan, name: str, timeout_s: float) -> None:
        """Reserve all seats under the run's `name`, within `timeout_s` seconds.

        Raises:
            DoesNotFit: a seat is larger than every node, or others hold what is needed.
        """
        self._run = name
        self._group: PlacementGroup | None = None
        if plan.device == "cpu":  # nothing is reserved there
            return
        bundles, self._first = _bundles(plan)
        for bundle in bundles:
            _check_some_node_has(bundle)
        self._group = placement_group(bundles, strategy="PACK", name=name)
        with phase("reserving GPUs"):
            reserved = self._group.wait(timeout_seconds=timeout_s)
        if not reserved:
            holders = _holders(self._group)
            self.release()
            raise DoesNotFit(
                f"{_told(bundles)} could not be reserved in cluster.reserve_timeout_s="
                f"{timeout_s:g} seconds. {holders} "
                "Wait for the others to end, raise it, add nodes, or lower rollout.workers, "
                "rollout.tensor_parallel_size or learner.ranks"
            )

    def options_for(self, role: str, slot: int = 0) -> dict[str, Any]:
        """Ray's options for the actor of a role in a slot: its name, and its seat."""
        named = {"name": actor_name(self._run, role, slot)}
        if self._group is None:
            return named
        place = self._first[role] + slot
        seat = PlacementGroupSchedulingStrategy(self._group, place)
        return {**named, "scheduling_strategy": seat}

    def release(self) -> None:
        """Give reserved seats back."""
        if self._group is not None:
            remove_placement_group(self._group)


def _bundles(plan: Plan) -> tuple[list[Bundle], dict[str, int]]:
    """The seats, and where each role's begin."""
    shared = plan.transport == "ipc"
    bundles: list[Bundle] = []
    first: dict[str, int] = {}
    for actors in plan.actors:
        first[actors.role] = len(bundles)
        each = {"GPU": actors.gpus, "CPU": actors.cpus}
        if shared and actors.role == "rollout":
            beside = plan.role("learner")
            each = {"GPU": actors.gpus + beside.gpus, "CPU": actors.cpus + beside.cpus}
        if shared and actors.role == "learner":
            first["learner"] = first["rollout"]
            continue
        bundles += [{name: n for name, n in each.items() if n} for _ in range(actors.count)]
    return bundles, first


def _check_some_node_has(bundle: Bundle) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= n for name, n in bundle.items()) for node in nodes):
        largest = max((node.get("GPU", 0) for node in nodes), default=0)
        raise DoesNotFit(
            f"an actor of the recipe needs {_amounts(bundle)} on one node, and no node has them; "
            f"the largest has {largest:g} GPU: lower rollout.tensor_parallel_size or "
            "reward.processes"
        )


def _holders(own: PlacementGroup) -> str:
    """What is free, and which other jobs have reserved what."""
    free = {name: ray.available_resources().get(name, 0.0) for name in ("GPU", "CPU")}
    told = [f"Free in all: {_amounts(free)}."]
    for key, group in placement_group_table().items():
        if key != own.id.hex() and group["state"] == "CREATED":
            name = group["name"] or "without a name"
            told.append(f"Reservation {name!r} holds {_told(list(group['bundles'].values()))}.")
    if len(told) == 1:
        told.append("`ray status` and `ray list actors` show who holds the rest.")
    return " ".join(told)


def _told(bundles: list[Bundle]) -> str:
    """All that the bundles hold, in words."""
    return _amounts(
        {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("GPU", "CPU")}
    )


def _amounts(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
