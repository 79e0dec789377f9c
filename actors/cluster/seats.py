"""The seats of a run: which are reserved together, and whether nodes have room for all of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from actors.cluster.plan import Plan, PlannedActors

Bundle = dict[str, float]
"""What one seat takes on one node, by Ray's names of resources."""
Node = Mapping[str, float]
"""What a node has, by the same names."""
_ORDER = ("learner", "rollout", "reference", "teacher", "reward")
"""Ranks come first, so that they find room beside one another."""


@dataclass(frozen=True, slots=True)
class SeatGroup:
    """Equal seats that are reserved together."""

    sitters: Mapping[str, int]
    """Actors of each role that sit on one of them: one; the learner ranks that share rows; or an
    engine and, on each of its GPUs, a learner rank."""
    bundle: Bundle
    count: int
    strategy: Literal["PACK", "SPREAD"]
    """PACK: on as few nodes as can be, as ranks talk most; SPREAD: on as many."""

    @property
    def name(self) -> str:
        """Who sits on one seat, in words."""
        if set(self.sitters.values()) == {1}:
            return " + ".join(self.sitters)
        return f"({' + '.join(f'{count} {role}' for role, count in self.sitters.items())})"

    @property
    def first(self) -> str:
        """The role that the seats are named by."""
        return next(iter(self.sitters))


def seats_of(plan: Plan) -> tuple[SeatGroup, ...]:
    """The seats of a plan, those that are reserved first before the others."""
    groups: list[SeatGroup] = []
    for actors in sorted(plan.actors, key=lambda each: _ORDER.index(each.role)):
        sitters = {actors.role: actors.together}
        if plan.shares_gpus and actors.role == "rollout":
            continue  # sits on the learner's seats
        if plan.shares_gpus and actors.role == "learner":
            sitters = {"learner": actors.count // plan.role("rollout").count, "rollout": 1}
        if taken := _taken_by([(plan.role(role), count) for role, count in sitters.items()]):
            strategy = "PACK" if actors.role == "learner" else "SPREAD"
            seats = actors.count // sitters[actors.role]
            groups.append(SeatGroup(sitters, taken, seats, strategy))
    return tuple(groups)


def _taken_by(sitting: Sequence[tuple[PlannedActors, int]]) -> Bundle:
    """What a seat takes on its node for so many actors of each."""
    taken: Bundle = {}
    for each, count in sitting:
        for name, amount in {"GPU": each.gpus, "CPU": each.cpus, **each.resources}.items():
            taken[name] = taken.get(name, 0.0) + count * amount
    return {name: amount for name, amount in taken.items() if amount}


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
            on_nodes[place].update(group.sitters)
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
    return min(fitting, key=lambda place: on_nodes[place][group.first])


def has(node: Node, bundle: Node) -> bool:
    """Whether a node has what a seat takes."""
    return all(node.get(name, 0.0) >= amount for name, amount in bundle.items())
