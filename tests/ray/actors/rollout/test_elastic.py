"""Engines are added as nodes join, with the current weights, and nobody misses those that leave."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from actors.cluster.driver_loop import DriverLoop
from actors.cluster.members import Health
from actors.cluster.pool import ActorPool
from actors.rollout.elastic import keep_filled
from tests.ray.processes import lines_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_a_node_joins_a_run_leaves_it_and_another_joins() -> None:
    *_, last = lines_of("tests.ray.actors.rollout.elastic_check")
    told: dict[str, Any] = json.loads(last)

    def engines(when: str, version: int, count: int) -> None:
        assert [own["versions"] for own in told[when]] == [[version]] * count
        assert all(own["gap"] < 1e-4 for own in told[when])

    assert told["alone"] == 1
    assert told["joined_on"]
    engines("joined", 1, 2)  # the one that came holds what the learner sent before
    engines("both", 2, 2)
    assert told["open"] > 0 and told["answered"]
    engines("left", 3, 1)
    assert told["restarts"] == 0  # a node that leaves is nobody's fault
    engines("again", told["version"], 2)


class Answerer:
    """Says who it is, and can end."""

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def loop() -> Iterator[DriverLoop]:
    loop = DriverLoop()
    yield loop
    loop.close()


def test_an_actor_that_dies_by_itself_comes_back_as_often_as_restarts_allow(
    cluster: None, loop: DriverLoop
) -> None:
    worker = ray.remote(num_cpus=0)(Answerer)
    health = Health(lambda answerer: answerer.pid.remote(), 60.0)
    pool = ActorPool("answerer", lambda _: worker.remote(), 2, 1, health)
    healed: list[list[Any]] = []

    async def heal() -> None:
        healed.append(pool.handles)

    pool.on_restart(heal)
    loop.start(pool.watch())
    loop.start(keep_filled(pool, 3))
    wait_until(lambda: len(healed) == 1, 60.0)
    assert len(pool.handles) == 3 and pool.restarts == 0  # one more than it began with

    def end(handle: Any) -> None:
        """Kill one, and ask until its death was noticed."""
        ray.kill(handle)
        wait_until(lambda: handle not in pool.handles or not ask(), 60.0)

    def ask() -> list[int]:
        asked = [loop.start(pool.run(lambda one: one.pid.remote())) for _ in range(6)]
        return [each.result(60) for each in asked]

    end(pool.handles[0])
    wait_until(lambda: pool.restarts == 1, 60.0)
    assert len(pool.handles) == 3 and len(healed) == 2
    end(pool.handles[0])
    assert len(set(ask())) == 2 and pool.restarts == 1
    for handle in pool.handles:
        ray.kill(handle)


class NoSuchEngine(RuntimeError):
    """What no restart mends."""


def test_what_keeps_workers_from_being_added_ends_the_run_with_its_reason(
    cluster: None, loop: DriverLoop, caplog: pytest.LogCaptureFixture
) -> None:
    worker = ray.remote(num_cpus=0)(Answerer)

    def make(slot: int) -> Any:
        if slot == 1:
            raise NoSuchEngine("its folder is gone")
        return worker.remote()

    health = Health(lambda answerer: answerer.pid.remote(), 60.0)
    pool = ActorPool("answerer", make, 1, 0, health)
    loop.start(keep_filled(pool, 2)).result(60)
    with pytest.raises(NoSuchEngine, match="its folder is gone"):
        loop.start(pool.run(lambda one: one.pid.remote())).result(60)
    assert "the answerer workers cannot be kept" in caplog.text
    ray.kill(pool.handles[0])
