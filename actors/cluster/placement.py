"""Where the actors of a run sit: reserved together at the door, so that nobody waits for half."""

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorAlreadyExistsError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.cluster.actor_names import actor_name
from actors.cluster.nodes import nodes_there
from actors.cluster.plan import Plan
from actors.cluster.seats import Bundle, SeatGroup, has, in_order, seats_of
from rl.console.errors import DoesNotFit
from rl.console.progress import Phase, phase

TOLD_EVERY_S = 15.0
"""Between lines about what is missing."""
_LOOK_EVERY_S = 1.0
_NAMESPACE = "r1v"
_TURN = "reserving"


class Placement:
    """On GPUs a seat for each actor, on one node each, so an engine has all its GPUs on one, and a
    seat for all learner ranks that share rows: ranks on as few nodes as can be, engines on as many,
    reward workers on nodes without GPUs where there are such. Where learner and engines share GPUs,
    an engine of n GPUs sits on one seat with n ranks, which hold the GPUs; it holds none and is
    told which they are."""

    def __init__(self, plan: Plan, name: str, timeout_s: float) -> None:
        """Reserve all seats under the run's `name`, within `timeout_s` seconds. What is missing is
        told meanwhile.

        Raises:
            DoesNotFit: others hold what is needed, or nodes that should have come did not.
        """
        self._run = name
        self._reserved: list[_Reserved] = []
        self._gpus_of_engines: list[str] = []
        groups = seats_of(plan)
        if not groups:
            return
        what = "GPUs" if plan.device == "cuda" else "seats"
        try:
            with phase(f"reserving {what}", line_every_s=TOLD_EVERY_S) as work:
                self._reserve(groups, timeout_s, work)
                self._gpus_of_engines = [
                    gpus for each in self._reserved if each.is_shared for gpus in each.gpus()
                ]
        except BaseException:
            self.release()
            raise

    def options_for(self, role: str, slot: int = 0) -> dict[str, Any]:
        """Ray's options for the actor of a role in a slot: its name, and its seat, if one was
        reserved for it."""
        options: dict[str, Any] = {"name": actor_name(self._run, role, slot)}
        seats = [
            seat
            for reserved in self._reserved
            for seat in reserved.strategies()
            for _ in range(reserved.of.sitters.get(role, 0))
        ]
        if slot < len(seats):
            options["scheduling_strategy"] = seats[slot]
        if role == "rollout" and self._gpus_of_engines:
            options["runtime_env"] = {"env_vars": _only(self._gpus_of_engines[slot])}
        return options

    def release(self) -> None:
        """Give reserved seats back."""
        for reserved in self._reserved:
            remove_placement_group(reserved.seats)

    def _reserve(self, groups: Sequence[SeatGroup], timeout_s: float, work: Phase) -> None:
        until = time.monotonic() + timeout_s
        with _turn(self._run, until, work):
            for group in in_order(groups, nodes_there()):
                self._reserved += _asked_for(group, self._run)
            while missing := [each for each in self._reserved if not each.is_there]:
                told = _told(missing)
                if time.monotonic() > until:
                    raise DoesNotFit(
                        f"{told} could not be reserved in cluster.reserve_timeout_s={timeout_s:g} "
                        f"seconds. {_holders(self._run)} Wait for the others to end, raise it, add "
                        "nodes, or lower rollout.workers, rollout.tensor_parallel_size or "
                        "learner.ranks"
                    )
                work.advance(0, f"waiting for {told}. {_holders(self._run)}")
                missing[0].seats.wait(timeout_seconds=_LOOK_EVERY_S)


class _Reserved(NamedTuple):
    """Seats of a group, as many as were asked for at once."""

    seats: PlacementGroup
    of: SeatGroup
    count: int

    @property
    def is_there(self) -> bool:
        """Whether nodes were found for all of them."""
        return placement_group_table(self.seats)["state"] == "CREATED"

    @property
    def is_shared(self) -> bool:
        """Whether engines sit on the GPUs of learner ranks there."""
        return "learner" in self.of.sitters and "rollout" in self.of.sitters

    def strategies(self) -> list[PlacementGroupSchedulingStrategy]:
        """Ray's word for each of them."""
        return [PlacementGroupSchedulingStrategy(self.seats, i) for i in range(self.count)]

    def gpus(self) -> list[str]:
        """The GPUs of each, as CUDA_VISIBLE_DEVICES names them: a seat keeps those it was given, so
        whoever takes all of a seat's GPUs for a moment sees what its ranks will be dealt."""
        ask = ray.remote(num_cpus=0, num_gpus=self.of.bundle["GPU"])(_own_gpus)
        asked = [ask.options(scheduling_strategy=seat).remote() for seat in self.strategies()]
        return ray.get(asked)


def _own_gpus() -> str:
    found = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return ",".join(sorted(found, key=lambda name: (len(name), name)))


def _only(gpus: str) -> dict[str, str]:
    """Environment of an actor that reserves no GPU and uses `gpus`; Ray shall not hide them."""
    return {"CUDA_VISIBLE_DEVICES": gpus, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}


def _asked_for(group: SeatGroup, run: str) -> list[_Reserved]:
    """Ask for the seats of a group; those without GPUs each near a node without GPUs, if any."""
    nodes = [node for node in ray.nodes() if node["Alive"] and not node["Resources"].get("GPU")]
    near = [node["NodeID"] for node in nodes if has(node["Resources"], group.bundle)]
    name = f"{run}/{group.first}"
    if group.strategy == "SPREAD" and "GPU" not in group.bundle and near:
        return [
            _Reserved(
                placement_group(
                    [group.bundle],
                    strategy="STRICT_PACK",
                    name=f"{name}-{number}",
                    # A wish: where that node is full the seat is on another.
                    _soft_target_node_id=near[number % len(near)],
                ),
                group,
                1,
            )
            for number in range(group.count)
        ]
    bundles = [dict(group.bundle) for _ in range(group.count)]
    seats = placement_group(bundles, strategy=group.strategy, name=name)
    return [_Reserved(seats, group, group.count)]


class _Turn:
    """An actor whose name is taken while a run reserves; it ends with the run's process."""


@contextmanager
def _turn(run: str, until: float, work: Phase) -> Generator[None]:
    """One run reserves at a time: two that each held half would both wait for ever.

    Raises:
        DoesNotFit: another run's turn has not ended.
    """
    while True:
        try:
            holder = (
                ray.remote(num_cpus=0)(_Turn).options(name=_TURN, namespace=_NAMESPACE).remote()
            )
            break
        except ActorAlreadyExistsError:
            if time.monotonic() > until:
                raise DoesNotFit(
                    "another run has been reserving seats all the time, and waits for some: wait "
                    "for it to start, end it, or raise cluster.reserve_timeout_s"
                ) from None
            work.advance(0, f"waiting for another run to reserve its seats. {_holders(run)}")
            time.sleep(_LOOK_EVERY_S)
    try:
        yield
    finally:
        ray.kill(holder)


def _told(missing: Iterable[_Reserved]) -> str:
    """Seats that are missing, by who would sit on them."""
    counts: dict[str, int] = {}
    bundles: dict[str, Bundle] = {}
    for each in missing:
        counts[each.of.name] = counts.get(each.of.name, 0) + each.count
        bundles[each.of.name] = each.of.bundle
    return ", ".join(f"{n} {who} x {_amounts(bundles[who])}" for who, n in counts.items())


def _holders(own: str) -> str:
    """What is free, and which runs have reserved what."""
    free = {name: ray.available_resources().get(name, 0.0) for name in ("GPU", "CPU")}
    told = [f"Free in all: {_amounts(free)}."]
    held: dict[str, list[Bundle]] = {}
    for group in placement_group_table().values():
        if group["state"] == "CREATED":
            run = group["name"].rpartition("/")[0] or group["name"]
            held.setdefault(run, []).extend(group["bundles"].values())
    for name, bundles in held.items():
        who = "This run" if name == own else f"Reservation {name or 'without a name'!r}"
        told.append(f"{who} holds {_amounts(_sum(bundles))}.")
    if not held:
        told.append("`ray status` and `ray list actors` show who holds the rest.")
    return " ".join(told)


def _sum(bundles: Iterable[Bundle]) -> Bundle:
    """All that the bundles hold."""
    held = {"GPU": 0.0, "CPU": 0.0}
    for bundle in bundles:
        for name in held:
            held[name] += bundle.get(name, 0.0)
    return held


def _amounts(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items())
