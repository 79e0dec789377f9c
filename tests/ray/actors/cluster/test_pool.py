"""A pool of actors: what happens to calls when members die and cannot be brought back."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest
import ray

from actors.cluster import pool
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.members import Health, PoolExhausted
from actors.cluster.pool import ActorPool
from rl.console.errors import DoesNotFit
from tests.waiting import wait_until, wait_until_dead

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Sleeper:
    """Does nothing, for as long as it is told, and counts who else does."""

    def __init__(self) -> None:
        self._now = 0
        self._most = 0

    async def sleep(self, seconds: float) -> float:
        """Sleep; returns `seconds`."""
        self._now += 1
        self._most = max(self._most, self._now)
        await asyncio.sleep(seconds)
        self._now -= 1
        return seconds

    async def most(self) -> int:
        """The largest number of sleepers at a time."""
        return self._most

    async def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    async def die(self) -> None:
        """End this process."""
        sys.stderr.write("the engine has run out of memory\n")
        sys.stderr.flush()
        os._exit(1)


@pytest.fixture
def loop() -> Iterator[DriverLoop]:
    loop = DriverLoop()
    yield loop
    loop.close()


def sleepers(size: int, restarts: int, timeout_s: float = 60.0) -> ActorPool:
    worker = ray.remote(num_cpus=0, max_concurrency=pool.CALLS_AT_A_TIME)(Sleeper)
    health = Health(lambda sleeper: sleeper.pid.remote(), timeout_s)
    return ActorPool("sleeper", lambda _: worker.remote(), size, restarts, health)


def kill(actors: ActorPool) -> None:
    for handle in actors.handles:
        ray.kill(handle)


def test_a_pool_that_cannot_be_healed_fails_every_call(cluster: None, loop: DriverLoop) -> None:
    actors = sleepers(2, restarts=3)

    async def heal() -> None:
        await asyncio.sleep(1)  # others come meanwhile, and wait for the new actor
        raise RuntimeError("no weights to be had")

    actors.on_restart(heal)
    calls = [loop.start(actors.run(lambda w: w.sleep.remote(1000))) for _ in range(4)]
    asleep = [handle.most.remote for handle in actors.handles]
    wait_until(lambda: sum(ray.get([most() for most in asleep])) == 4, 60.0)
    pid = ray.get(actors.handles[1].pid.remote())
    actors.handles[1].die.remote()
    wait_until_dead(pid)
    calls += [loop.start(actors.run(lambda w: w.sleep.remote(1000))) for _ in range(3)]
    for call in calls:
        with pytest.raises(RuntimeError, match="no weights to be had"):
            call.result(30)
    with pytest.raises(RuntimeError, match="no weights to be had"):
        loop.start(actors.run(lambda w: w.sleep.remote(0))).result(30)
    kill(actors)


def test_deaths_beyond_the_restarts_fail_every_call_with_the_dead_one_s_last_words(
    cluster: None, loop: DriverLoop
) -> None:
    actors = sleepers(2, restarts=0)
    ray.get([handle.most.remote() for handle in actors.handles])
    calls = [loop.start(actors.run(lambda w: w.sleep.remote(1000))) for _ in range(2)]
    calls.append(loop.start(actors.run(lambda w: w.die.remote())))
    for call in calls:
        with pytest.raises(PoolExhausted) as caught:
            call.result(30)
    told = str(caught.value)
    assert "a sleeper actor died and no restart is left" in told
    assert "Last lines of /" in told and "the engine has run out of memory" in told
    kill(actors)


def test_calls_beyond_an_actor_s_room_wait_and_leave_it_free_to_be_steered(
    cluster: None, loop: DriverLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CALLS_PER_ACTOR", 3)
    actors = sleepers(1, restarts=0)
    calls = [loop.start(actors.run(lambda w: w.sleep.remote(0.2))) for _ in range(8)]
    assert [call.result(30) for call in calls] == [0.2] * 8
    assert ray.get(actors.handles[0].most.remote()) == 3
    kill(actors)


def test_an_actor_that_hangs_is_ended_and_its_calls_are_made_again(
    cluster: None, loop: DriverLoop, caplog: pytest.LogCaptureFixture
) -> None:
    actors = sleepers(2, restarts=1, timeout_s=2.0)
    pids = ray.get([handle.pid.remote() for handle in actors.handles])
    loop.start(actors.restart_dead()).result(60)  # all have started
    loop.start(actors.watch())
    calls = [loop.start(actors.run(lambda w: w.sleep.remote(1.0))) for _ in range(4)]
    os.kill(pids[0], signal.SIGSTOP)
    assert [call.result(60) for call in calls] == [1.0] * 4
    assert actors.restarts == 1
    assert "a sleeper actor died; starting another: it gave no sign of life for 2 s" in caplog.text
    wait_until_dead(pids[0])
    assert ray.get(actors.handles[1].pid.remote()) == pids[1]
    kill(actors)


def test_an_actor_that_dies_while_nobody_calls_it_is_replaced(
    cluster: None, loop: DriverLoop
) -> None:
    actors = sleepers(1, restarts=1, timeout_s=2.0)
    (dying,) = actors.handles
    first = ray.get(dying.pid.remote())
    loop.start(actors.restart_dead()).result(60)  # all have started
    loop.start(actors.watch())
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: actors.handles[0] is not dying, 30.0)
    assert ray.get(actors.handles[0].pid.remote()) != first
    assert actors.restarts == 1
    kill(actors)


def test_an_actor_that_no_node_has_room_for_ends_the_run_when_its_time_is_up(
    cluster: None, loop: DriverLoop
) -> None:
    cores = ray.cluster_resources()["CPU"]
    worker = ray.remote(max_concurrency=pool.CALLS_AT_A_TIME)(Sleeper)
    first = worker.options(num_cpus=0).remote()
    others = [first, worker.options(num_cpus=cores).remote()]  # all that comes later waits
    pid, _ = ray.get([each.pid.remote() for each in others])
    health = Health(lambda sleeper: sleeper.pid.remote(), 60.0, seat_timeout_s=1.0)
    made = iter([first, worker.options(num_cpus=cores).remote()])
    actors = ActorPool("sleeper", lambda _: next(made), 1, 1, health)
    loop.start(actors.restart_dead()).result(60)
    first.die.remote()
    wait_until_dead(pid)
    told = "no node had room for a new sleeper actor in cluster.reserve_timeout_s=1 seconds"
    with pytest.raises(DoesNotFit, match=told):
        loop.start(actors.run(lambda w: w.sleep.remote(0.5))).result(60)
    with pytest.raises(DoesNotFit, match=told):
        loop.start(actors.restart_dead()).result(60)
    kill(actors)
    ray.kill(others[1])


def test_actors_that_are_kept_from_answering_are_not_taken_for_dead(
    cluster: None, loop: DriverLoop
) -> None:
    actors = sleepers(1, restarts=0, timeout_s=0.5)
    pid = ray.get(actors.handles[0].pid.remote())
    loop.start(actors.restart_dead()).result(60)  # all have started
    loop.start(actors.watch())

    async def steer() -> None:
        async with actors.steering:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(2.0)  # four times what it has to show that it lives
            os.kill(pid, signal.SIGCONT)

    loop.start(steer()).result(30)
    assert loop.start(actors.run(lambda w: w.sleep.remote(0.1))).result(30) == 0.1
    assert actors.restarts == 0
    kill(actors)
