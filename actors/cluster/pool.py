"""A pool of equal actors: the freest is called next, the dead are replaced, their calls redone."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError

from actors.cluster.crash_report import crash_report
from actors.cluster.members import Health, Member, PoolExhausted
from actors.cluster.metrics import Metrics
from rl.console.errors import DoesNotFit
from rl.monitoring.metrics import WORKER

logger = logging.getLogger(__name__)

CALLS_AT_A_TIME = 1024
"""Calls that a pool's actor takes at a time."""
CALLS_PER_ACTOR = CALLS_AT_A_TIME // 2
"""Calls that a pool gives each actor at a time. The other half is left to those that steer it: a
weight sync must not wait behind a thousand problems."""

T = TypeVar("T")
_LOOK_EVERY_S = 10.0


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
        self.name = name
        self._make = make
        self._members = [Member(make(slot), slot) for slot in range(size)]
        for member in self._members:
            member.ready.set()
        self.restarts_left = restarts
        self._health = health
        self._watched = False
        self.steering = asyncio.Lock()
        """Held by whoever keeps the actors from answering, such as a weight sync."""
        self._heal: Callable[[], Awaitable[None]] | None = None
        self.may_shrink = False
        """Whether a dead actor is let go while others serve, for someone else to bring another."""
        self._under_way = 0
        self._room = asyncio.Condition()
        self._broken: asyncio.Future[Exception] | None = None
        self.restarts = 0
        self._metrics = Metrics(run)
        self._metrics.set("run_restarts", 0, role=name)

    def on_restart(self, heal: Callable[[], Awaitable[None]]) -> None:
        """Await `heal` after each death, before the new actor gets its first call."""
        self._heal = heal

    @property
    def members(self) -> list[Member]:
        """The actors that serve now."""
        return list(self._members)

    @property
    def handles(self) -> list[Any]:
        """Handles of the actors that serve now."""
        return [member.handle for member in self._members]

    async def join(self, slot: int) -> Member:
        """Start an actor in `slot`, wait until it answers, and let it serve once it was healed.

        Until then the others serve on. It may wait for a node with room for it.

        Raises:
            RayActorError: it died before it answered.
        """
        member = Member(self._make(slot), slot)
        try:
            if (died := await member.started(self._known_health())) is not None:
                raise died
        except BaseException:
            ray.kill(member.handle)
            raise
        async with self.steering, self._room:  # nobody counts on those who serve now
            self._members.append(member)
            self._room.notify_all()
        await self._healed(member)
        return member

    async def run(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """`call` on the freest actor; again on another when that one dies.

        Raises:
            PoolExhausted: more actors died than the recipe allows.
            Exception: what healing raised; every call that is open, and every later one, gets it.
        """
        async with self._place():
            while True:
                member = min(self._members, key=lambda m: m.open_calls)
                try:
                    return await self._unless_broken(member, call)
                except RayActorError as error:
                    await self._replace(member, error)

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """One of the calls that all actors together are given at a time."""
        async with self._room:
            await self._room.wait_for(
                lambda: self._under_way < CALLS_PER_ACTOR * len(self._members)
            )
            self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            async with self._room:
                self._room.notify()

    async def _unless_broken(self, member: Member, call: Callable[[Any], Awaitable[T]]) -> T:
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

    def _count(self, member: Member, more: int) -> None:
        """Note calls that begin or end."""
        member.open_calls += more
        self._metrics.set("run_open_calls", member.open_calls, **self._labels(member))

    def _labels(self, member: Member) -> dict[str, str]:
        return {"role": self.name, WORKER: f"{self.name}-{member.slot}"}

    def _breakage(self) -> "asyncio.Future[Exception]":
        """Done, with the reason, once this pool can answer no more."""
        if self._broken is None:
            self._broken = asyncio.get_running_loop().create_future()
        return self._broken

    def give_up(self, reason: Exception) -> Exception:
        """Let every call that is open, and every later one, raise `reason`, which is returned."""
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
            member.started(self._health)
        try:
            while True:
                await asyncio.sleep(min(_LOOK_EVERY_S, self._health.timeout_s / 4))
                async with self.steering:
                    members = [m for m in self._members if m.started(self._health).done()]
                    faults = await asyncio.gather(*[m.fault(self._health) for m in members])
                for member, fault in zip(members, faults, strict=True):
                    if fault is not None:
                        await self._replace(member, fault)
        except Exception as error:  # whatever it is, unwatched actors could hang for ever
            self.give_up(error)

    def _known_health(self) -> Health:
        assert self._health is not None, f"nobody says how {self.name} actors show that they live"
        return self._health

    async def _replace(self, member: Member, error: Exception) -> None:
        fresh = await self._replace_dead(member, error)
        if fresh is not None:
            await self._healed(fresh)

    async def _healed(self, fresh: Member) -> None:
        """Heal, and let a new actor be called."""
        if self._heal is not None:
            try:
                await self._heal()
            except Exception as failure:
                raise self.give_up(failure) from None
        fresh.ready.set()

    async def restart_dead(self) -> None:
        """Replace every actor that gives no sign of life, and wait until all of them do.

        New ones get no call before `mark_ready`.
        """

        health, broken = self._known_health(), self._breakage()

        async def revived(member: Member | None) -> None:
            while member is not None:
                started = member.started(health)
                await asyncio.wait({started, broken}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise broken.result()
                fault = started.result() or await member.fault(health)
                if fault is None:
                    return
                await self._replace_dead(member, fault)
                member = member.successor

        await asyncio.gather(*[revived(member) for member in self._members])

    def mark_ready(self) -> None:
        """Let every actor be called: they have been healed."""
        for member in self._members:
            member.ready.set()

    async def _replace_dead(self, member: Member, error: Exception) -> Member | None:
        """Put a new actor in a dead one's place; None when another call did so before, or where the
        pool goes on without. What a lost node took along is no death that counts."""
        lost = member.alive and await member.has_lost_node()
        if not member.alive:
            return None
        member.alive = False
        member.ready.set()  # whoever waits for it shall find it dead, not wait for ever
        if self.may_shrink and len(self._members) > 1:
            logger.warning("a %s actor is gone: %s", self.name, crash_report(error))
            ray.kill(member.handle)
            self._members.remove(member)
            member.gone.set()
            return None
        if not lost and not self.use_restart():
            raise self.give_up(
                PoolExhausted(
                    f"a {self.name} actor died and no restart is left; its last words: "
                    f"{crash_report(error)}"
                )
            ) from error
        logger.warning("a %s actor died; starting another: %s", self.name, crash_report(error))
        ray.kill(member.handle)  # unreachable is not always dead; two engines must not share a GPU
        fresh = Member(self._make(member.slot), member.slot)
        self._members[self._members.index(member)] = member.successor = fresh
        member.gone.set()
        if self._health is not None:
            fresh.seating = asyncio.ensure_future(self._seat(fresh, self._health))
        return fresh

    async def _seat(self, fresh: Member, health: Health) -> None:
        """End it all where no node has room for a new actor for too long."""
        limit_s = None if math.isinf(health.seat_timeout_s) else health.seat_timeout_s
        done, _ = await asyncio.wait({fresh.started(health)}, timeout=limit_s)
        if not done and fresh.alive and not await fresh.has_node():
            self.give_up(
                DoesNotFit(
                    f"no node had room for a new {self.name} actor in cluster.reserve_timeout_s="
                    f"{health.seat_timeout_s:g} seconds; add nodes, then go on by --resume"
                )
            )

    def use_restart(self) -> bool:
        """Take one of the restarts that the recipe allows; False where none is left."""
        if self.restarts_left == 0:
            return False
        self.restarts_left -= 1
        self.restarts += 1
        self._metrics.set("run_restarts", self.restarts, role=self.name)
        return True
