"""How long a sync waits for a learner to notice that an engine died."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from actors.weight_transfer import sync as sync_module
from actors.weight_transfer.sync import SyncOverdue, WeightSync
from configs.jobs.grpo import SyncConfig

SUMS = {"lm_head.weight": (1.0, 2.0)}


class Engine:
    """A rollout actor that holds what was sent, until it dies."""

    def __init__(self) -> None:
        self.alive = True
        self._version = 0
        for name in ("wait_ready", "set_weight_version", "readback", "resume_generation"):
            setattr(self, name, SimpleNamespace(remote=getattr(self, f"_{name}")))
        self.check_health = SimpleNamespace(remote=self._check_health)

    async def _wait_ready(self) -> int:
        return 1

    async def _set_weight_version(self, version: int) -> None:
        self._version = version

    async def _readback(self, names: list[str]) -> Any:
        return str(self._version), {name: name for name in names}, SUMS

    async def _resume_generation(self) -> None:
        pass

    async def _check_health(self) -> None:
        if not self.alive:
            raise RayActorError


class Pool:
    """The engines; dead ones are replaced."""

    def __init__(self) -> None:
        self.steering = asyncio.Lock()
        self.handles = [Engine()]

    async def restart_dead(self) -> None:
        self.handles = [each if each.alive else Engine() for each in self.handles]

    def mark_ready(self) -> None:
        pass


class Learner:
    """Takes `pass_s` for a round, and notices a dead engine at its end, or never."""

    def __init__(self, pool: Pool, pass_s: float) -> None:
        self.turn = asyncio.Lock()
        self._pool = pool
        self.pass_s = pass_s
        self.notices = True
        self.dies: list[Engine] = []
        """Engines that die in the next round."""

    async def init_weight_transfer(self, engines: list[Any], ranks_per_engine: int) -> bool:
        return True

    async def send_weights(self) -> Any:
        for engine in self.dies:
            engine.alive = False
        self.dies = []
        await asyncio.sleep(self.pass_s)
        while not (self.notices or all(each.alive for each in self._pool.handles)):
            await asyncio.sleep(0.01)
        if not all(each.alive for each in self._pool.handles):
            raise RayActorError
        return SUMS


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], tuple[WeightSync, Learner, Pool]]:
    monkeypatch.setattr(sync_module, "_GRACE_S", 0.05)
    monkeypatch.setattr(sync_module, "_HEALTH_CHECK_S", 0.02)

    def made(timeout_s: float) -> tuple[WeightSync, Learner, Pool]:
        pool = Pool()
        learner = Learner(pool, pass_s=0.3)
        engines: Any = pool
        loop: Any = None
        return WeightSync(learner, engines, SyncConfig(timeout_s=timeout_s), loop), learner, pool

    return made


def test_an_engine_that_dies_in_a_round_as_long_as_usual_is_replaced(system: Any) -> None:
    sync, learner, pool = system(60.0)

    async def twice() -> None:
        await sync.run()
        learner.dies = list(pool.handles)
        await sync.run()

    asyncio.run(twice())
    assert sync.verified == 2


def test_an_engine_that_dies_in_the_first_round_is_replaced_however_long_that_takes(
    system: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sync, learner, pool = system(60.0)
    learner.dies = list(pool.handles)
    asyncio.run(sync.run())
    assert sync.verified == 1
    (said,) = [told for told in caplog.messages if "the sync of version 0 begins anew" in told]
    assert "waited for weights to travel" in said
    assert said.endswith(str(RayActorError()))


@pytest.mark.parametrize(("good", "at_most_s"), [(True, 30.0), (False, 1.0)])
def test_a_learner_that_never_notices_ends_the_run_in_the_time_of_two_rounds_or_what_is_left(
    system: Any, good: bool, at_most_s: float
) -> None:
    sync, learner, pool = system(at_most_s)

    async def stuck() -> None:
        if good:
            await sync.run()
        learner.dies, learner.notices = list(pool.handles), False
        await sync.run()

    began = time.monotonic()
    with pytest.raises(SyncOverdue, match=r"a rollout engine died, and 0\.\d+ s later"):
        asyncio.run(stuck())
    assert time.monotonic() - began < at_most_s + 5.0
