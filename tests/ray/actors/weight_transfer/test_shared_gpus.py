"""An engine on the GPUs of two learner ranks: weights go from each rank to the worker beside it,
and no worker wakes to old ones. vLLM's `ipc` transport, on GPUs that are played by files."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.weight_transfer.ipc import NotBegun
from rl.data.records import SamplingRequest
from tests.ray import played_gpus
from tests.ray.actors.rollout.served import PICTURES
from tests.ray.sharing import EngineOnGPUs, sharing_system
from tests.ray.system import System, learned_from, mean_gap, problem, recipe

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ASKED = [problem(1), problem(2)]


@pytest.fixture(scope="module")
def shared(
    cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """As R1V's GRPO: the projector learns, so the first sync brings every weight, and later ones
    the projector alone."""
    engine = {"tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "enforce_eager": True}
    plan = recipe(
        vlm_folder,
        policy={"path": str(vlm_folder), "dtype": "float32", "train": ["projector"]},
        loss={},
        rollout=engine | {"max_new_tokens": 24, "max_num_seqs": 64},
        sync={"shared_gpu": True},
        learner={
            "ranks": 2,
            "zero_stage": 3,
            "gradient_checkpointing": False,
            "max_tokens_per_microbatch": 2048,
            "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
        },
    )
    with sharing_system(plan, vlm_folder, tmp_path_factory.mktemp("shared")) as system:
        yield system


def in_workers(system: System, work: str) -> list[Any]:
    """What a method of the probe returns in each worker of the engine."""
    return ray.get(system.engines.handles[0].in_engine.remote(work))


def test_each_worker_takes_weights_from_the_rank_on_its_own_gpu(shared: System) -> None:
    assert [set(of) for of in in_workers(shared, "opened")] == [{"GPU-0"}, {"GPU-1"}]
    assert mean_gap(shared.gaps(shared.sample(PICTURES))) < 1e-4


def test_all_workers_sleep_and_none_answers_before_the_new_weights_were_read_back(
    shared: System,
) -> None:
    groups = shared.sample(ASKED)
    shared.actors.weights.make_room()
    assert in_workers(shared, "is_empty") == [True, True]
    pending = shared.rollouts.submit(ASKED, SamplingRequest(2, 1.0, 24, seed=3))
    shared.learners.update(learned_from(groups))
    in_workers(shared, "ping")
    assert pending.open == len(ASKED)
    shared.send_weights()
    answered = [scored.group for scored in pending.result()]
    assert mean_gap(shared.gaps(answered)) < 1e-4
    assert mean_gap(shared.gaps(groups)) > 1e-3
    first, second = in_workers(shared, "levels_slept")
    assert first == second == [2, 1]  # before the first sync, and with frozen weights kept


def _take(worker: EngineOnGPUs, buffers: int) -> None:
    worker.buffers_left = buffers


@pytest.mark.parametrize("buffers", [0, 3])
def test_an_engine_that_fails_amid_a_sync_leaves_no_rank_waiting(
    shared: System, buffers: int
) -> None:
    groups = shared.sample(ASKED)
    shared.learners.update(learned_from(groups))
    (engine,) = shared.engines.handles
    ray.get(engine.__ray_call__.remote(_take, buffers))
    shared.actors.weights._connected = []  # as after a death, when every weight is sent
    with pytest.raises(RuntimeError, match="takes no more weights"):
        shared.send_weights()
    ray.get(engine.__ray_call__.remote(_take, 10**6))
    shared.send_weights()
    assert mean_gap(shared.gaps(groups)) > 1e-3
    assert mean_gap(shared.gaps(shared.sample(ASKED))) < 1e-4


def _fill(rank: Any, full: bool) -> None:
    played_gpus.full = full


def test_a_rank_without_room_for_its_buffer_stops_all_of_them_before_they_gather(
    shared: System,
) -> None:
    rank = shared.learners._ranks[1]
    began = time.monotonic()
    ray.get(rank.__ray_call__.remote(_fill, True))
    reason = r"no weights were sent.*learner rank 1: OutOfMemoryError: tried to allocate"
    with pytest.raises(NotBegun, match=reason):
        shared.send_weights()
    ray.get(rank.__ray_call__.remote(_fill, False))
    shared.send_weights()  # no rank waits in a collective of the round before
    assert time.monotonic() - began < 60.0
    assert mean_gap(shared.gaps(shared.sample(ASKED))) < 1e-4


def test_the_same_ranks_reach_the_same_workers_over_nccl(shared: System) -> None:
    """All weights, then the projector alone; last here, as nobody goes back."""
    in_workers(shared, "travel_by_nccl")
    shared.learners._transport = "nccl"
    shared.actors.weights._connected = []
    for _ in range(2):
        groups = shared.sample(ASKED)
        shared.learners.update(learned_from(groups))
        shared.send_weights()
        assert mean_gap(shared.gaps(groups)) > 1e-3
        assert mean_gap(shared.gaps(shared.sample(ASKED))) < 1e-4
