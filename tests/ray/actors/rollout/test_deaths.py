"""Actors die, hang or find no room in the middle of their work, and nothing is lost."""

import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.cluster.driver_loop import DriverLoop
from actors.cluster.members import PoolExhausted
from actors.cluster.pool import ActorPool
from actors.rollout.rollouts import PendingRollouts
from actors.scoring.reward_worker import RewardWorker
from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.disk import DiskFull
from tests.full_disk import allow_files_of, files_of_at_most
from tests.ray.processes import engine_core_of, pid_of
from tests.ray.system import System, mean_gap, problem, shift_part
from tests.waiting import wait_until_dead

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ASKED = [problem(number) for number in range(24)]
LONG = SamplingRequest(4, 1.0, 200, seed=5)


def under_way(system: System) -> PendingRollouts[ScoredGroup]:
    """Problems that the engine has begun to answer, under weights of a later version."""
    system.in_learner(shift_part, "language", 0.05)
    system.send_weights()
    pending = system.rollouts.submit(ASKED, LONG)
    system.sample([problem(99)], tokens=1)
    assert pending.open
    return pending


def check_all_answered(system: System, groups: Sequence[ScoredGroup]) -> None:
    """Every problem in its place, every answer scored, the engine at the learner's weights."""
    assert [scored.group.problem.id for scored in groups] == [p.id for p in ASKED]
    assert all(len(scored.group.answers) == len(scored.scores) == 4 for scored in groups)
    assert {a.version for g in groups for a in g.group.answers} == {system.version}
    fresh = system.sample(ASKED[:2])
    assert {a.version for g in fresh for a in g.answers} == {system.version}
    assert mean_gap(system.gaps(fresh)) < 1e-4


@pytest.mark.timeout(1200)
def test_a_killed_vllm_engine_costs_no_problem(system: System) -> None:
    restarts = system.engines.restarts
    pending = under_way(system)
    actor = pid_of(system.engines.handles[0])
    engine_core_of(actor).send_signal(signal.SIGKILL)
    check_all_answered(system, pending.result())
    assert system.engines.restarts == restarts + 1
    assert pid_of(system.engines.handles[0]) != actor
    assert not psutil.pid_exists(actor)


@pytest.mark.timeout(1200)
def test_a_killed_rollout_actor_costs_no_problem_and_leaves_no_engine(system: System) -> None:
    restarts = system.engines.restarts
    pending = under_way(system)
    actor = pid_of(system.engines.handles[0])
    core = engine_core_of(actor)
    os.kill(actor, signal.SIGKILL)
    check_all_answered(system, pending.result())
    assert system.engines.restarts == restarts + 1
    _, alive = psutil.wait_procs([core], timeout=30)
    assert not alive


def hang(actors: ActorPool, patch: pytest.MonkeyPatch) -> None:
    """Stop the pool's first actor, and wait until it has been found out."""
    assert actors._health is not None
    actor = pid_of(actors.handles[0])
    with patch.context() as hasty:
        hasty.setattr(actors, "_health", replace(actors._health, timeout_s=10.0))
        os.kill(actor, signal.SIGSTOP)
        wait_until_dead(actor)


@pytest.mark.timeout(1200)
def test_a_rollout_actor_that_hangs_costs_no_problem(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts = system.engines.restarts
    pending = under_way(system)
    hang(system.engines, monkeypatch)
    check_all_answered(system, pending.result())
    assert system.engines.restarts == restarts + 1


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_reference_costs_no_logprob(
    how: str, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = system.actors.pools.reference
    assert reference is not None
    restarts = reference.restarts
    pending = under_way(system)
    if how == "dies":
        os.kill(pid_of(reference.handles[0]), signal.SIGKILL)
    else:
        hang(reference, monkeypatch)
    groups = pending.result()
    check_all_answered(system, groups)
    for scored in groups:
        assert scored.reference_logprobs is not None
        read = [len(own) for own in scored.reference_logprobs]
        assert read == [len(answer.token_ids) for answer in scored.group.answers]
    assert reference.restarts == restarts + 1


def test_a_killed_reward_actor_costs_no_score(system: System) -> None:
    rewards = system.actors.pools.rewards
    pending = under_way(system)
    os.kill(pid_of(rewards.handles[0]), signal.SIGKILL)
    check_all_answered(system, pending.result())
    assert rewards.restarts == 1


def test_a_learner_without_room_for_a_checkpoint_says_so_and_the_one_before_is_whole(
    system: System, tmp_path: Path
) -> None:
    def fill(checkpoint: Checkpoint) -> None:
        system.learners.save(checkpoint.learner)
        system.learners.export(checkpoint.policy)

    checkpoints = Checkpoints(tmp_path, keep=2)
    before = checkpoints.write(1, fill)
    system.in_learner(_allow_files_of, 2**19)
    try:
        with files_of_at_most(2**19), pytest.raises(DiskFull, match="the checkpoint of step 2 "):
            checkpoints.write(2, fill)
    finally:
        system.in_learner(_allow_files_of, resource.RLIM_INFINITY)
    assert checkpoints.newest() == before
    system.learners.restore(before.learner)
    assert checkpoints.write(2, fill) == checkpoints.newest()


def _allow_files_of(_: Any, size: int) -> None:
    allow_files_of(size)


@pytest.fixture
def reward_pool(cluster: None) -> Any:
    worker = ray.remote(num_cpus=0, max_concurrency=8)(RewardWorker)
    config = RewardConfig(weights={"format": 1.0}, accuracy="format")
    pool = ActorPool("reward", lambda _: worker.remote(config), size=2, restarts=1)
    yield pool
    for handle in pool.handles:
        ray.kill(handle)


def test_deaths_beyond_the_restarts_that_a_recipe_allows_end_the_run(reward_pool: Any) -> None:
    loop = DriverLoop()
    said = [Completion("<think>1</think>\\boxed{1}", 1, 8, "stop")]

    def ask() -> float:
        scoring = reward_pool.run(lambda w: w.score.remote(Problem("p", "", ("1",)), said))
        return loop.start(scoring).result(120)[0].reward

    assert ask() == 1.0
    pids = [pid_of(handle) for handle in reward_pool.handles]
    os.kill(pids[0], signal.SIGKILL)
    wait_until_dead(pids[0])
    assert [ask() for _ in range(4)] == [1.0] * 4
    assert reward_pool.restarts == 1
    for handle in reward_pool.handles:
        pid = pid_of(handle)
        os.kill(pid, signal.SIGKILL)
        wait_until_dead(pid)
    with pytest.raises(PoolExhausted, match="a reward actor died and no restart is left"):
        ask()
    loop.close()
