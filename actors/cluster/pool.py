"""A pool of equal actors: the freest is called next, the dead are replaced, their calls redone."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError

from actors.cluster.crash_report import crash_report
from actors.cluster.metrics import Metrics
from rl.monitoring.metrics import WORKER

logger = logging.getLogger(__name__)

CALLS_AT_A_TIME = 1024
"""Calls that a pool's actor takes at a time."""
CALLS_PER_ACTOR = CALLS_AT_A_TIME // 2
"""Calls that a pool gives each actor at a time. The other half is left to those that steer it: a
weight sync must not wait behind a thousand problems."""

T = TypeVar("T")
_GIVEN_UP_IN_S = 5.0
_LOOK_EVERY_S = 10.0


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


class DriverLoop:
    """The asyncio loop, on a thread of its own, in which the driver waits for its actors."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="actors")
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin `work`; its result is there when the future says so."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Give up what is still under way, then stop the loop and its thread."""
        with suppress(TimeoutError):
            self.start(_cancel_others()).result(timeout=_GIVEN_UP_IN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass
class _Member:
    handle: Any
    slot: int
    open_calls: int = 0
    alive: bool = True
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    started: "asyncio.Future[Exception | None] | None" = None
    """Done once its constructor is through; holds why it never will be."""


class ActorPool:
    """Equal actors behind one door. Its coroutines run on the driver's loop."""

    def __init__(
        self,
        name: str,
        make: Callable[[int], Any],
        size: int,
        restarts: int,
        health: Health | None = None,
        *,
        run: str = "",
    ) -> None:
        """`make(slot)` starts the actor of slot 0 to `size` - 1 and returns its handle at once.

        `health`: for `watch` and `restart_dead`; `run`: the name of the run that metrics are of.
        """
        self._name = name
        self._make = make
        self._members = [_Member(make(slot), slot) for slot in range(size)]
        for member in self._members:
            member.ready.set()
        self._restarts_left = restarts
        self._health = health
        self._watched = False
        self.steering = asyncio.Lock()
        """Held by whoever keeps the actors from answering, such as a weight sync."""
        self._heal: Callable[[], Awaitable[None]] | None = None
        self._places = asyncio.Semaphore(size * CALLS_PER_ACTOR)
        self._broken: asyncio.Future[Exception] | None = None
        self.restarts = 0
        self._metrics = Metrics(run)
        self._metrics.set("run_restarts", 0, role=name)

    def on_restart(self, heal: Callable[[], Awaitable[None]]) -> None:
        """Await `heal` after each death, before the new actor gets its first call."""
        self._heal = heal

    @property
    def handles(self) -> list[Any]:
        """Handles of the actors that serve now."""
        return [member.handle for member in self._members]

    async def run(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """`call` on the freest actor; again on another when that one dies.

        Raises:
            PoolExhausted: more actors died than the recipe allows.
            Exception: what healing raised; every call that is open, and every later one, gets it.
        """
        async with self._places:
            while True:
                member = min(self._members, key=lambda m: m.open_calls)
                try:
                    return await self._unless_broken(member, call)
                except RayActorError as error:
                    await self._replace(member, error)

    async def _unless_broken(self, member: _Member, call: Callable[[Any], Awaitable[T]]) -> T:
        async def when_ready() -> T:
            await member.ready.wait()
            return await call(member.handle)

        broken = self._breakage()
        self._count(member, 1)
        work = asyncio.ensure_future(when_ready())
        try:
            await asyncio.wait({work, broken}, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                raise broken.result()
            answered = work.result()
            self._metrics.count("run_calls", 1, **self._labels(member))
            return answered
        finally:
            work.cancel()
            self._count(member, -1)

    def _count(self, member: _Member, more: int) -> None:
        """Note calls that begin or end."""
        member.open_calls += more
        self._metrics.set("run_open_calls", member.open_calls, **self._labels(member))

    def _labels(self, member: _Member) -> dict[str, str]:
        return {"role": self._name, WORKER: f"{self._name}-{member.slot}"}

    def _breakage(self) -> "asyncio.Future[Exception]":
        """Done, with the reason, once this pool can answer no more."""
        if self._broken is None:
            self._broken = asyncio.get_running_loop().create_future()
        return self._broken

    def _break(self, reason: Exception) -> Exception:
        if not self._breakage().done():
            self._breakage().set_result(reason)
        return reason

    async def watch(self) -> None:
        """Replace actors that die or hang, also while nobody calls them, until the pool breaks.

        Returns at once where somebody watches already, or nothing is known of their health.
        """
        if self._health is None or self._watched:
            return
        self._watched = True
        for member in self._members:
            self._start_of(member)
        try:
            while True:
                await asyncio.sleep(min(_LOOK_EVERY_S, self._health.timeout_s / 4))
                async with self.steering:
                    members = [each for each in self._members if self._start_of(each).done()]
                    faults = await asyncio.gather(*[self._fault(each) for each in members])
                for member, fault in zip(members, faults, strict=True):
                    if fault is not None:
                        await self._replace(member, fault)
        except Exception as error:  # whatever it is, unwatched actors could hang for ever
            self._break(error)

    def _known_health(self) -> Health:
        assert self._health is not None, f"nobody says how {self._name} actors show that they live"
        return self._health

    def _start_of(self, member: _Member) -> "asyncio.Future[Exception | None]":
        """As `member.started`. There is no limit: large models take their time to load."""
        ping = self._known_health().ping

        async def started() -> Exception | None:
            try:
                await ping(member.handle)
            except RayActorError as error:
                return error
            return None

        if member.started is None:
            member.started = asyncio.ensure_future(started())
        return member.started

    async def _fault(self, member: _Member) -> Exception | None:
        """Why an actor that has started is dead, or as good as that; None: it lives."""
        health = self._known_health()
        try:
            await asyncio.wait_for(health.ping(member.handle), health.timeout_s)
        except RayActorError as error:
            return error
        except TimeoutError:
            return ActorHung(f"it gave no sign of life for {health.timeout_s:g} s")
        return None

    async def _replace(self, member: _Member, error: Exception) -> None:
        fresh = self._replace_dead(member, error)
        if fresh is None:
            return
        if self._heal is not None:
            try:
                await self._heal()
            except Exception as failure:
                raise self._break(failure) from None
        fresh.ready.set()

    async def restart_dead(self) -> None:
        """Replace every actor that gives no sign of life, and wait until all of them do.

        New ones get no call before `mark_ready`.
        """

        async def revived(slot: int) -> None:
            while True:
                member = self._members[slot]
                fault = await asyncio.shield(self._start_of(member)) or await self._fault(member)
                if fault is None:
                    return
                self._replace_dead(member, fault)

        await asyncio.gather(*[revived(slot) for slot in range(len(self._members))])

    def mark_ready(self) -> None:
        """Let every actor be called: they have been healed."""
        for member in self._members:
            member.ready.set()

    def _replace_dead(self, member: _Member, error: Exception) -> _Member | None:
        """Put a new actor in a dead one's place; None when another call did so before."""
        if not member.alive:
            return None
        member.alive = False
        member.ready.set()  # whoever waits for it shall find it dead, not wait for ever
        if self._restarts_left == 0:
            raise self._break(
                PoolExhausted(
                    f"a {self._name} actor died and no restart is left; its last words: "
                    f"{crash_report(error)}"
                )
            ) from error
        self._restarts_left -= 1
        self.restarts += 1
        self._metrics.set("run_restarts", self.restarts, role=self._name)
        logger.warning("a %s actor died; starting another: %s", self._name, crash_report(error))
        ray.kill(member.handle)  # unreachable is not always dead; two engines must not share a GPU
        slot = self._members.index(member)
        fresh = self._members[slot] = _Member(self._make(slot), slot)
        if self._health is not None:
            self._start_of(fresh)
        return fresh
