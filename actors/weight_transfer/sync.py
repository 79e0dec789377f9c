"""Bringing the learner's weights to all engines, and making sure that they arrived.

Nothing here waits for ever: an engine that dies fails its part of the sync at once, is replaced,
and the sync begins anew; a learner that dies ends the run; whatever else takes too long does too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from ray.exceptions import RayActorError, RayTaskError

from actors.cluster.crash_report import crash_report
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.metrics import Metrics
from actors.cluster.pool import ActorPool
from configs.jobs.grpo import SyncConfig
from models.policy.parts import part_of
from models.policy.weight_sums import WeightSums, compare_sums
from rl.console.progress import wait_for

logger = logging.getLogger(__name__)

_HEALTH_CHECK_S = 2.0
_GRACE_S = 20.0
"""Least seconds in which the learner may notice by itself that an engine died."""

T = TypeVar("T")


class WeightSyncError(RuntimeError):
    """An engine does not hold the weights that the learner sent, or they could not be sent."""


class SyncOverdue(WeightSyncError):
    """The recipe's time for a sync is up, or a learner does not come back from a broken one."""


class WeightPublisher(Protocol):
    """The learner ranks, as the sync needs them."""

    turn: asyncio.Lock
    """Held by whoever the ranks work for; an update has a time limit of its own."""

    async def init_weight_transfer(self, engines: list[Any], ranks_per_engine: int) -> bool:
        """Form the transfer group with the engines; true where later rounds will send every
        weight, as the first does."""
        ...

    async def send_weights(self) -> WeightSums:
        """Send the weights; the sums of each, by its name in the checkpoint."""
        ...


class WeightSync:
    """Sends weights to all engines, reads them back and compares."""

    def __init__(
        self,
        learners: WeightPublisher,
        engines: ActorPool,
        config: SyncConfig,
        loop: DriverLoop,
        *,
        sleeps: bool = False,
        run: str = "",
    ) -> None:
        """`sleeps`: whether engines sleep while the learner learns, as both share their GPUs.
        `run`: the name of the run that the metrics are of."""
        self._metrics = Metrics(run)
        self._metrics.set("learner_logprob_gap_bound", config.max_logprob_gap)
        self._learners = learners
        self._engines = engines
        self._config = config
        self._loop = loop
        self._connected: list[Any] = []
        self._always_whole = False
        self._sleeps = sleeps
        self._asleep = False
        self._longest_s = 0.0
        self.version = 0
        """What the learner's weights are called."""
        self.stage = "to begin"
        """What is being waited for."""
        self.verified = 0
        """Syncs that brought every engine the right weights."""

    def make_room(self) -> None:
        """Let engines that share GPUs with the learner sleep until the next sync; from the main
        thread. Others stay awake."""
        if self._sleeps and not self._asleep:
            done = self._loop.start(self._sleep())
            wait_for(done, lambda: "engines to make room for the learner")

    async def _sleep(self) -> None:
        pool = self._engines
        await pool.steering.acquire()  # up to the sync: no engine starts beside a busy learner
        self._asleep = True
        await self._restart_dead()
        whole = self._always_whole or pool.handles != self._connected
        slept = [engine.sleep.remote(whole) for engine in pool.handles]
        for fault in await asyncio.gather(*slept, return_exceptions=True):
            # The memory of the dead is free, and the sync replaces them.
            if isinstance(fault, Exception) and not isinstance(fault, RayActorError):
                raise fault

    def sync(self, version: int) -> None:
        """Bring the learner's weights to every engine as `version`; from the main thread. Engines
        that sleep wake: for the weights first, and to answer when they hold the right ones.

        Raises: as `run` does.
        """
        self.version = version
        done = self._loop.start(self._wake() if self._asleep else self.run())
        wait_for(done, lambda: f"{self.stage} in the sync of version {version}")

    async def _wake(self) -> None:
        try:
            await self._bring_weights()
        finally:
            self._asleep = False
            self._engines.steering.release()

    async def run(self) -> None:
        """Bring the weights to every engine. One that dies meanwhile is replaced first.

        Raises:
            WeightSyncError: an engine reads back another version or other weights.
            SyncOverdue: the recipe's time is up.
            LearnerDied: a learner rank is gone.
        """
        async with self._engines.steering:
            await self._bring_weights()

    async def _bring_weights(self) -> None:
        pool = self._engines
        began = time.monotonic()
        self._metrics.set("sync_version", self.version)
        while True:
            await self._restart_dead()
            engines = pool.handles
            try:
                self.stage = "the learner to be free"
                async with self._learners.turn:  # outside the sync's time: an update may be longer
                    await self._in_time(self._send(engines), self._watch_health(engines))
                pool.mark_ready()
                self._metrics.set("sync_seconds", time.monotonic() - began)
                self._metrics.set("sync_verified_version", self.version)
                return
            except (RayActorError, RayTaskError) as fault:
                self._connected = []
                stage = self.stage
                await self._restart_dead()
                if pool.handles == engines:  # nobody died: the fault is another
                    raise
                logger.warning(
                    "the sync of version %d begins anew: an engine died while it waited for %s, "
                    "and the learner was told: %s",
                    *(self.version, stage, fault),
                )

    async def _restart_dead(self) -> None:
        self.stage = "engines to answer"
        await self._engines.restart_dead()

    async def _in_time(self, work: Awaitable[T], watch: Awaitable[NoReturn]) -> T:
        """`work`'s result. `watch` ends when an engine has died: `work` should then fail too."""
        doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(watch)
        limit_s = self._config.timeout_s
        began = time.monotonic()
        try:
            await asyncio.wait(
                {doing, watching}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            died = watching.exception() if watching.done() else None
            grace_s = self._grace_s(time.monotonic() - began)
            if died is not None:
                await asyncio.wait({doing}, timeout=grace_s)
            if doing.done():
                result = doing.result()
                self._longest_s = max(self._longest_s, time.monotonic() - began)
                return result
            what = f"the sync of version {self.version} still waits for {self.stage}"
            if isinstance(died, RayActorError):
                raise SyncOverdue(
                    f"a rollout engine died, and {grace_s:.3g} s later {what}. {crash_report(died)}"
                )
            if died is not None:
                raise died
            raise SyncOverdue(
                f"{what} after sync.timeout_s={limit_s:g} s; raise it if weights need longer to "
                "travel, else look into the logs of learner and engines"
            )
        finally:
            doing.cancel()
            watching.cancel()

    def _grace_s(self, passed_s: float) -> float:
        """How long, `passed_s` after a sync began, the learner may take to notice by itself that an
        engine died. Its ranks may gather to the end of a round first: so twice the longest sync
        that went well, and before one did all the time that is left."""
        left_s = max(0.0, self._config.timeout_s - passed_s)
        usual_s = 2 * self._longest_s if self._longest_s else left_s
        return min(max(_GRACE_S, usual_s), left_s)

    async def _watch_health(self, engines: list[Any]) -> NoReturn:
        while True:
            await asyncio.sleep(_HEALTH_CHECK_S)
            await asyncio.gather(*[engine.check_health.remote() for engine in engines])

    async def _send(self, engines: list[Any]) -> None:
        if engines != self._connected:
            self.stage = "learner and engines to meet"
            ranks = await engines[0].wait_ready.remote()
            self._always_whole = await self._learners.init_weight_transfer(engines, ranks)
            self._connected = engines
        if self._sleeps:
            self.stage = "engines to take memory for weights"
            await asyncio.gather(*[engine.wake_weights.remote() for engine in engines])
        self.stage = "weights to travel"
        sent = await self._learners.send_weights()
        self.stage = "engines to read their weights back"
        await asyncio.gather(*[e.set_weight_version.remote(self.version) for e in engines])
        held = await asyncio.gather(*[e.readback.remote(list(sent)) for e in engines])
        for number, (version, groups, sums) in enumerate(held):
            faults = [] if version == str(self.version) else [f"version {version}"]
            expected = _by_group(sent, groups, sums)
            faults += compare_sums(expected, sums, self._config.tolerance)
            if faults:
                raise WeightSyncError(
                    f"rollout engine {number} does not hold version {self.version} that the "
                    f"learner sent: {'; '.join(faults[:5])}"
                )
        self.stage = "engines to go on"
        await asyncio.gather(*[e.resume_generation.remote() for e in engines])
        self.verified += 1


def _by_group(sent: WeightSums, groups: Mapping[str, str], held: WeightSums) -> WeightSums:
    """What of `sent` the engine runs, by its weight groups: of a vision tower, layers behind the
    one that is read are left out (LLaVA reads the last but one)."""
    sums = WeightSums()
    for name, own in sent.items():
        if groups[name] in held or part_of(name) != "vision":
            sums.add(groups[name], own)
    return sums
