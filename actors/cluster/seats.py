"""The seats of a run: which are reserved together, and whether nodes have room for all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from actors.cluster.plan import Plan

Bundle = dict[str, float]
"""What one seat takes on one node, by Ray's names of resources."""
Node = Mapping[str, float]
"""What a node has, by the same names."""
_ORDER = ("learner", "rollout", "reference", "teacher", "reward")
"""Ranks come first, so that they find room beside one another."""


@dataclass(frozen=True, slots=True)
class SeatGroup:
    """Equal seats that are reserved together."""

    roles: tuple[str, ...]
    """Who sits on each of them: a role; or two that share GPUs, rank i beside engine i."""
    bundle: Bundle
    count: int
    strategy: Literal["PACK", "SPREAD"]
    """PACK: on as few nodes as can be, as ranks talk most; SPREAD: on as many."""

    @property
    def name(self) -> str:
        """The roles, in words."""
        return " + ".join(self.roles)


def seats_of(plan: Plan) -> tuple[SeatGroup, ...]:
    """The seats of a plan, those that are reserved first before the others."""
    groups: list[SeatGroup] = []
    for actors in sorted(plan.actors, key=lambda each: _ORDER.index(each.role)):
        roles, bundle = (actors.role,), {"GPU": actors.gpus, "CPU": actors.cpus}
        if plan.transport == "ipc" and actors.role == "rollout":
            continue  # sits on the learner's seats
        if plan.transport == "ipc" and actors.role == "learner":
            engine = plan.role("rollout")
            roles = ("learner", "rollout")
            bundle = {"GPU": actors.gpus + engine.gpus, "CPU": actors.cpus + engine.cpus}
        taken = {name: amount for name, amount in bundle.items() if amount}
        if taken:
            strategy = "PACK" if actors.role == "learner" else "SPREAD"
            groups.append(SeatGroup(roles, taken, actors.count, strategy))
    return tuple(groups)


@dataclass(frozen=True, slots=True)
class Dealt:
    """Seats dealt out over nodes."""

    on_nodes: tuple[Counter[str], ...]
    """Actors of each role, on each node."""
    missing: Counter[str]
    """Seats that no node has room for, by their group's name."""


def in_order(groups: Sequence[SeatGroup], nodes: Sequence[Node]) -> Sequence[SeatGroup]:
    """The groups as they should be reserved: large seats first where, as they are, some would find
    no room on `nodes` though there is some."""
    by_size = sorted(groups, key=lambda group: -group.bundle.get("GPU", 0.0))
    better = _deal(by_size, nodes).missing.total() < _deal(groups, nodes).missing.total()
    return by_size if better else groups


def deal(groups: Sequence[SeatGroup], nodes: Sequence[Node]) -> Dealt:
    """Where Ray would put the seats on `nodes`, were nobody else there."""
    return _deal(in_order(groups, nodes), nodes)


def _deal(groups: Sequence[SeatGroup], nodes: Sequence[Node]) -> Dealt:
    free = [dict(node) for node in nodes]
    on_nodes = tuple(Counter[str]() for _ in nodes)
    missing = Counter[str]()
    for group in groups:
        for _ in range(group.count):
            place = _place(group, free, nodes, on_nodes)
            if place is None:
                missing[group.name] += 1
                continue
            for name, amount in group.bundle.items():
                free[place][name] -= amount
            on_nodes[place].update(group.roles)
    return Dealt(on_nodes, missing)


def _place(
    group: SeatGroup,
    free: Sequence[Node],
    nodes: Sequence[Node],
    on_nodes: Sequence[Counter[str]],
) -> int | None:
    """The node for the next seat; None: none has room."""
    fitting = [place for place, node in enumerate(free) if has(node, group.bundle)]
    if not fitting:
        return None
    if "GPU" not in group.bundle:
        without = [place for place in fitting if not nodes[place].get("GPU")]
        fitting = without or fitting
    if group.strategy == "PACK":
        return fitting[0]
    return min(fitting, key=lambda place: on_nodes[place][group.roles[0]])


def has(node: Node, bundle: Node) -> bool:
    """Whether a node has what a seat takes."""
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items())
