"""The actors of a pool, and how it is seen that they live."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


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


@dataclass(eq=False)
class Member:
    """An actor of a pool, from its start to its death."""

    handle: Any
    slot: int
    open_calls: int = 0
    alive: bool = True
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    started: "asyncio.Future[Exception | None] | None" = None
    """Done once its constructor is through; holds why it never will be."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is dead, and `successor` says who is in its place."""
    successor: "Member | None" = None
    """None: the pool goes on with one less."""
