"""The actors of a pool, and how it is seen that they live."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private import state  # Ray has no public name for it where no dashboard runs
from ray.exceptions import RayActorError

_ANSWERS_IN_S = 5.0


class PoolExhausted(RuntimeError):
    """Actors of a pool died more often than the recipe allows."""


class ActorHung(RuntimeError):
    """An actor gives no sign of life."""


@dataclass(frozen=True, slots=True)
class Health:
    """How it is seen that an actor lives."""

    ping: Callable[[Any], Awaitable[object]]
    """A call that is answered at once whatever else the actor does, once it has started."""
    timeout_s: float
    """Seconds without an answer after which the actor counts as stuck."""
    seat_timeout_s: float = math.inf
    """Seconds that one in the place of a dead one may wait for a node with room for it."""


@dataclass(eq=False)
class Member:
    """An actor of a pool, from its start to its death."""

    handle: Any
    slot: int
    open_calls: int = 0
    alive: bool = True
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is dead, and `successor` says who is in its place."""
    successor: "Member | None" = None
    """None: the pool goes on with one less."""
    seating: "asyncio.Task[None] | None" = None
    """Watches over its wait for a node."""
    _started: "asyncio.Future[Exception | None] | None" = None
    _lost: "asyncio.Future[bool] | None" = None

    def started(self, health: Health) -> "asyncio.Future[Exception | None]":
        """Done once its constructor is through; holds why it never will be. There is no limit:
        large models take their time to load."""

        async def first_sign() -> Exception | None:
            try:
                await health.ping(self.handle)
            except RayActorError as error:
                return error
            return None

        if self._started is None:
            self._started = asyncio.ensure_future(first_sign())
        return self._started

    async def fault(self, health: Health) -> Exception | None:
        """Why an actor that has started is dead, or as good as that; None: it lives."""
        try:
            await asyncio.wait_for(health.ping(self.handle), health.timeout_s)
        except RayActorError as error:
            return error
        except TimeoutError:
            return ActorHung(f"it gave no sign of life for {health.timeout_s:g} s")
        return None

    async def has_node(self) -> bool:
        """Whether Ray has found a node for it, on which it may still be starting."""
        return bool((await asyncio.to_thread(_told_of, self.handle))["Pid"])

    async def has_lost_node(self) -> bool:
        """Whether the node that it stood on is gone, by Ray's word or since nobody answers there:
        Ray itself takes half a minute to be sure. Looked up once, for all who found it dead."""
        if self._lost is None:
            self._lost = asyncio.ensure_future(asyncio.to_thread(_stood_on_lost_node, self.handle))
        return await asyncio.shield(self._lost)


def _told_of(handle: Any) -> dict[str, Any]:
    return state.actors(handle._actor_id.hex())


def _stood_on_lost_node(handle: Any) -> bool:
    place = _told_of(handle)["Address"]["NodeID"]
    for node in ray.nodes():
        if node["NodeID"] == place:
            address = (node["NodeManagerAddress"], node["NodeManagerPort"])
            return not node["Alive"] or not _answers(address)
    return False


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_ANSWERS_IN_S).close()
    except OSError:
        return False
    return True
