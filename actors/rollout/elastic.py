"""A pool that grows as nodes join and goes on with fewer when they leave."""

import asyncio
import logging
import time
from typing import Any

import ray
from ray.exceptions import RayActorError

from actors.cluster.members import Member
from actors.cluster.pool import ActorPool
from rl.console.progress import CONSOLE

logger = logging.getLogger(__name__)

_AGAIN_AFTER_S = 5.0
_NOTICED_IN_S = 60.0


async def keep_filled(pool: ActorPool, slots: int) -> None:
    """Keep an actor in each of `slots` slots as long as the cluster has room; ends when cancelled.
    Whatever else ends it breaks the pool: nobody would bring back what died.

    An actor that finds no room waits for a node, which an autoscaler sees. One whose node left is
    brought back when there is room again; one that died by itself as often as the pool's restarts
    allow.
    """
    pool.may_shrink = True
    there: dict[int, Member | None] = {member.slot: member for member in pool.members}
    keepers = [asyncio.ensure_future(_keep(pool, slot, there.get(slot))) for slot in range(slots)]
    try:
        await asyncio.gather(*keepers)
    except Exception as error:
        logger.exception("the %s workers cannot be kept", pool.name)
        pool.give_up(error)
    finally:
        for keeper in keepers:
            keeper.cancel()


async def _keep(pool: ActorPool, slot: int, member: Member | None) -> None:
    left: str | None = None
    while True:
        if member is None:
            member = await _joined(pool, slot)
            if member is None:
                return
            if _is_there(left):  # so that it was no node that left, but an actor that died
                pool.use_restart()
        left = await _node_of(member.handle)
        await member.gone.wait()
        if member.successor is None:
            CONSOLE.print(f"a {pool.name} worker is gone, {len(pool.members)} go on")
            if pool.restarts_left == 0 and await _stays(left):
                logger.warning("no restart is left for slot %d of %s", slot, pool.name)
                return
        member = member.successor


async def _joined(pool: ActorPool, slot: int) -> Member | None:
    """The slot's new actor, once it serves; None where it dies again and again at its start."""
    while True:
        try:
            member = await pool.join(slot)
        except RayActorError as error:
            if not pool.use_restart():
                logger.warning("a further %s actor does not start: %s", pool.name, error)
                return None
            await asyncio.sleep(_AGAIN_AFTER_S)
            continue
        CONSOLE.print(f"a {pool.name} worker has joined, {len(pool.members)} serve now")
        return member


async def _node_of(actor: Any) -> str | None:
    """Id of the node that an actor is on; None where it has died already."""
    try:
        return await actor.__ray_call__.remote(_own_node)
    except RayActorError:
        return None


def _own_node(_: Any) -> str:
    return ray.get_runtime_context().get_node_id()


async def _stays(node: str | None) -> bool:
    """Whether a node lives on for longer than Ray takes to notice that one does not."""
    until = time.monotonic() + _NOTICED_IN_S
    while _is_there(node):
        if time.monotonic() > until:
            return True
        await asyncio.sleep(1)
    return False


def _is_there(node: str | None) -> bool:
    """Whether a node lives."""
    return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())
