"""What a run's actors are called in Ray's dashboard, its logs, its timeline and in metrics."""

from collections import Counter
from typing import NamedTuple

import ray

_started: Counter[str] = Counter()


def actor_name(run: str, role: str, slot: int) -> str:
    """`digits/rollout-0`; what replaces it is `digits/rollout-0#2`, since a name is free only some
    time after its actor has died."""
    name = f"{run}/{role}-{slot}"
    _started[name] += 1
    return name if _started[name] == 1 else f"{name}#{_started[name]}"


class OwnName(NamedTuple):
    """Who records something."""

    run: str
    worker: str
    """`rollout-0`, whichever actor sits in that slot."""


def own_name() -> OwnName:
    """The name of the actor that asks; empty for the driver and where Ray does not run."""
    if not ray.is_initialized():
        return OwnName("", "")
    run, _, worker = (ray.get_runtime_context().get_actor_name() or "").rpartition("/")
    return OwnName(run, worker.partition("#")[0])


class NamedActor:
    """An actor that Ray's dashboard and logs show as `rollout-0 of digits`."""

    def __repr__(self) -> str:
        name = own_name()
        return f"{name.worker} of {name.run}" if name.worker else super().__repr__()
