"""All rollout engines, reward workers and the reference policy, seen from the driver.

A problem's way: sampled as a group by one engine, then scored while other groups are still being
written, and read by the reference policy at the same time.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.engine_extensions import compare_sums
from actors.learners import LearnerGroup, ProblemRefs
from actors.pool import ActorPool, DriverLoop
from rl.records import Group, Problem, SamplingRequest, ScoredGroup
from rl.rows import Row, TrainingAnswer


class WeightSyncError(RuntimeError):
    """An engine does not hold the weights that the learner sent."""


class Rollouts:
    """Asks problems, and brings new weights to the engines. Called from the main thread."""

    def __init__(
        self,
        loop: DriverLoop,
        learners: LearnerGroup,
        pools: "RolloutPools",
        *,
        refs: ProblemRefs,
        tolerance: float,
    ) -> None:
        self._loop = loop
        self._learners = learners
        self._pools = pools
        self._refs = refs
        self._tolerance = tolerance
        self._version = 0
        self._connected: list[Any] = []
        self._sync_lock = asyncio.Lock()
        self.syncs_verified = 0
        pools.engines.set_heal(self._sync)

    def ask(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> "Future[list[ScoredGroup]]":
        """Groups of scored answers, in the problems' order; returns at once."""
        return self._loop.start(self._gather([self._scored(p, request) for p in problems]))

    def sample(self, problems: Sequence[Problem], request: SamplingRequest) -> list[Group]:
        """Groups without scores, for checks."""
        return self._loop.start(self._gather([self._group(p, request) for p in problems])).result()

    def wait_ready(self) -> None:
        """Wait until every engine answers."""
        ready = [engine.ready.remote() for engine in self._pools.engines.handles]
        ray.get(ready)

    def publish(self, version: int) -> None:
        """Bring the learner's weights to every engine and make sure that they arrived.

        Raises:
            WeightSyncError: an engine reads back another version or other weights.
        """
        self._version = version
        self._loop.start(self._sync()).result()

    async def _gather(self, works: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*works))

    async def _group(self, problem: Problem, request: SamplingRequest) -> Group:
        ref = self._refs.put(problem)
        own = dataclasses.replace(request, seed=_mix(request.seed, problem.id))
        group: Group = await self._pools.engines.run(lambda w: w.sample.remote(ref, own))
        return dataclasses.replace(group, problem=problem)

    async def _scored(self, problem: Problem, request: SamplingRequest) -> ScoredGroup:
        group = await self._group(problem, request)
        blind = dataclasses.replace(problem, images=())  # rewards read text
        scoring = self._pools.rewards.run(
            lambda w: w.score.remote(blind, group.answers, request.max_new_tokens)
        )
        scores, reference = await asyncio.gather(scoring, self._reference(group))
        return ScoredGroup(group, tuple(scores), reference)

    async def _reference(self, group: Group) -> tuple[tuple[float, ...], ...] | None:
        if self._pools.reference is None:
            return None
        answers = tuple(TrainingAnswer(i, a.token_ids) for i, a in enumerate(group.answers))
        row = Row(group.problem, group.prompt_ids, answers)
        return await self._pools.reference.run(lambda w: w.logprobs.remote(row))

    async def _sync(self) -> None:
        """Send, read back, compare, go on. An engine that dies meanwhile is replaced first."""
        pool = self._pools.engines
        async with self._sync_lock:
            while True:
                await pool.revive(lambda w: w.ready.remote())
                engines = pool.handles
                try:
                    await self._send(engines)
                    pool.admit()
                    return
                except (RayActorError, RayTaskError):
                    self._connected = []
                    await pool.revive(lambda w: w.ready.remote())
                    if pool.handles == engines:  # nobody died: the fault is another
                        raise

    async def _send(self, engines: list[Any]) -> None:
        if engines != self._connected:
            await self._learners.connect(engines, await engines[0].ready.remote())
            self._connected = engines
        sent = await self._learners.publish()
        await asyncio.gather(*[e.name_version.remote(self._version) for e in engines])
        held = await asyncio.gather(*[e.readback.remote(list(sent)) for e in engines])
        for number, (version, groups, sums) in enumerate(held):
            faults = [] if version == str(self._version) else [f"version {version}"]
            faults += compare_sums(_by_group(sent, groups), sums, self._tolerance)
            if faults:
                raise WeightSyncError(
                    f"rollout engine {number} does not hold version {self._version} that the "
                    f"learner sent: {'; '.join(faults[:5])}"
                )
        await asyncio.gather(*[e.go_on.remote() for e in engines])
        self.syncs_verified += 1


def _by_group(
    sent: dict[str, tuple[float, float]], groups: dict[str, str]
) -> dict[str, tuple[float, float]]:
    sums: dict[str, tuple[float, float]] = {}
    for name, (total, squares) in sent.items():
        has = sums.get(groups[name], (0.0, 0.0))
        sums[groups[name]] = (has[0] + total, has[1] + squares)
    return sums


def _mix(seed: int, problem_id: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{problem_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclasses.dataclass
class RolloutPools:
    """The actors behind a rollout."""

    engines: ActorPool
    rewards: ActorPool
    reference: ActorPool | None

    def kill(self) -> None:
        """End all of them."""
        for pool in (self.engines, self.rewards, self.reference):
            for handle in pool.handles if pool is not None else []:
                ray.kill(handle)
