"""Two engines and a learner sharded over two ranks: synced, disturbed in mid-sync, and healed.

Their policy is a LLaVA, which is not the laptop's own family."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from torch import Tensor

from actors.training.learner_group import LearnerDied
from actors.weight_transfer.policy_source import PolicySource
from actors.weight_transfer.sync import WeightSync, WeightSyncError
from configs.jobs.grpo import SyncConfig
from rl.data.records import SamplingRequest
from tests.families import FAMILIES
from tests.ray.actors.rollout.served import PICTURES, check_a_step_is_served_as_it_was_learned
from tests.ray.processes import engine_core_of, pid_of
from tests.ray.system import OpenWorker, System, learned_from, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ASKED = [problem(1), problem(2, images=2), problem(3, images=0)]
GREEDY = SamplingRequest(1, 0.0, 12, seed=1)


@pytest.fixture(scope="module")
def pair(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("llava")
    FAMILIES["llava"](folder)
    plan = recipe(
        folder,
        rollout={"workers": 2, "max_new_tokens": 64, "max_num_seqs": 64, "enforce_eager": True},
        loss={},
        learner={
            "ranks": 2,
            "zero_stage": 3,
            "gradient_checkpointing": False,
            "max_tokens_per_microbatch": 2048,
            "optimizer": {"lr": 3e-3, "weight_decay": 0.0, "warmup_ratio": 0.0},
        },
    )
    with running_system(plan, folder, tmp_path_factory.mktemp("pair")) as system:
        yield system


class SignallingSource(PolicySource):
    """Once sends a signal to a process, when the first weights are on their way."""

    pid: int
    number: int

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        groups = super().iter_groups()
        yield next(groups)
        self.__class__ = PolicySource
        os.kill(self.pid, self.number)
        time.sleep(0.5)
        yield from groups


def _signal_in_next_sync(learner: Any, pid: int, number: int) -> None:
    source = learner._sender._source
    source.__class__, source.pid, source.number = SignallingSource, pid, number


def in_mid_sync(system: System, rank: int, pid: int, number: int) -> None:
    """Let a learner rank send signal `number` to a process in the midst of the next sync."""
    call = system.learners._ranks[rank].__ray_call__.remote(_signal_in_next_sync, pid, number)
    ray.get(call)


def learn(system: System) -> None:
    """One update that changes what the policy says."""
    system.learners.update(learned_from(system.sample(ASKED)))


def check_engines_speak_as_the_learner(system: System) -> None:
    """Each engine's greedy answers, of the newest version, are the learner's own."""
    expected = system.greedy_by_transformers(ASKED, GREEDY.max_new_tokens)
    for engine in system.engines.handles:
        said = ray.get([engine.sample.remote(one, GREEDY) for one in ASKED])
        assert [group.answers[0].token_ids for group in said] == expected
        assert {group.answers[0].version for group in said} == {system.version}


def test_a_step_of_grpo_on_another_family_is_served_as_it_was_learned(pair: System) -> None:
    check_a_step_is_served_as_it_was_learned(pair, PICTURES)


def test_every_engine_takes_the_weights_of_a_sharded_learner(pair: System) -> None:
    pair.send_weights()
    check_engines_speak_as_the_learner(pair)
    before = pair.greedy_by_transformers(ASKED, GREEDY.max_new_tokens)
    learn(pair)
    pair.send_weights()
    assert pair.greedy_by_transformers(ASKED, GREEDY.max_new_tokens) != before
    check_engines_speak_as_the_learner(pair)


def _refuse(worker: OpenWorker, refuses: bool) -> None:
    worker.refuses_updates = refuses


def test_an_update_that_one_engine_refused_can_be_begun_again_on_the_other(pair: System) -> None:
    engine = pair.engines.handles[1]
    learn(pair)
    ray.get(engine.__ray_call__.remote(_refuse, True))
    with pytest.raises(RuntimeError, match="this engine takes no weights"):
        pair.send_weights()
    ray.get(engine.__ray_call__.remote(_refuse, False))
    pair.send_weights()
    check_engines_speak_as_the_learner(pair)


def test_a_sync_that_takes_too_long_ends_the_run(pair: System) -> None:
    sync = WeightSync(
        pair.learners, pair.engines, SyncConfig(timeout_s=4), pair.actors.weights._loop
    )
    core = engine_core_of(pid_of(pair.engines.handles[0])).pid
    loop = pair.learners._loop
    loop.start(sync.run()).result()
    in_mid_sync(pair, 0, core, signal.SIGSTOP)
    try:
        with pytest.raises(WeightSyncError, match=r"weights to travel after sync.timeout_s=4 s"):
            loop.start(sync.run()).result()
    finally:
        os.kill(core, signal.SIGCONT)
    loop.start(sync.run()).result()


@pytest.mark.timeout(600)
def test_an_engine_killed_in_the_midst_of_a_sync_is_replaced_and_the_sync_done(
    pair: System,
) -> None:
    pair.send_weights()
    learn(pair)
    survivor, victim = (pid_of(handle) for handle in pair.engines.handles)
    in_mid_sync(pair, 0, engine_core_of(victim).pid, signal.SIGKILL)
    pair.send_weights()
    assert pair.engines.restarts == 1
    assert pid_of(pair.engines.handles[0]) == survivor
    assert pid_of(pair.engines.handles[1]) != victim
    check_engines_speak_as_the_learner(pair)


def test_a_learner_rank_that_dies_in_a_sync_ends_the_run_by_name(pair: System) -> None:
    """Last of all: there is no learner behind it."""
    pair.send_weights()
    in_mid_sync(pair, 1, pid_of(pair.learners._ranks[1]), signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(LearnerDied, match="learner rank 1 died"):
        pair.send_weights()
    assert time.monotonic() - began < 60
