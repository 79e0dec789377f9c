"""What lies on a GPU that an engine and a learner rank share while weights travel, by hand."""

import pytest

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import find_recipe, read_recipe
from rl.planning.changes import changed
from rl.planning.check import PlannedRun, planned_run
from rl.planning.machine import Machine
from rl.planning.memory import memory_of

_GIB = 2**30
ONE_NODE = "r1v_38b/grpo_one_node"
EMBEDDING = 152_064 * 5120 * 2
"""Bytes of the largest weight, in bfloat16: larger than a buffer of 1 GiB."""
LIVE = 10**9 * 2
"""Bytes that ZeRO 3 holds gathered."""


def recipe(**changes: object) -> GRPORecipe:
    found = changed(read_recipe(find_recipe(ONE_NODE), GRPORecipe), changes)
    assert isinstance(found, GRPORecipe)
    return found


def run(gib: float, **changes: object) -> PlannedRun:
    return planned_run(recipe(**changes), Machine(None, gib, None))


def test_two_buffers_of_the_largest_weight_lie_between_a_rank_and_an_engine_that_sleeps() -> None:
    memory = memory_of(recipe(), 79.0)
    assert memory is not None
    travelling = memory.travelling
    parameters = 1e9 * sum(memory.parameters.values())
    # Of 8 ranks: bfloat16 shards, 4 + 12 bytes of what learns, and a bucket of 5e8 gradients.
    rest = (2 * parameters + 16 * 1e9 * memory.learning) / 8 + 2 * 5e8
    # Of 4 devices: a quarter each but for the tower, which every one has whole.
    tower = 1e9 * memory.parameters["vision"]
    engine = 2 * (tower + (parameters - tower) / 4)
    assert travelling == {
        "at rest": pytest.approx(rest / _GIB),
        "gathered": pytest.approx(LIVE / _GIB),
        "buffers": 2 * EMBEDDING / _GIB,
        "engine": pytest.approx(engine / _GIB),
        "CUDA": 8.0,
    }
    assert sum(travelling.values()) == pytest.approx(10.1 + 1.9 + 2.9 + 25.6 + 8.0, abs=0.1)


def test_an_engine_that_stays_awake_has_its_keys_and_values_beside_them() -> None:
    awake = {"sync.sleep": False, "rollout.gpu_memory_utilization": 0.5}
    memory = memory_of(recipe(**awake), 79.0)
    assert memory is not None
    # Half of 79 GiB, less CUDA's own, which is counted by itself.
    engine = memory.travelling["engine"] + memory.travelling["KV cache"]
    assert engine == pytest.approx(79 / 2 - 4)


def test_a_gpu_that_is_too_small_for_both_while_weights_travel_is_refused() -> None:
    memory = memory_of(recipe(), 79.0)
    assert memory is not None
    needed = sum(memory.travelling.values())
    told = "while weights travel, an engine and a learner rank need about"
    assert any(told in fault for fault in run(0.99 * needed).faults)
    assert not any(told in fault for fault in run(1.01 * needed).faults)
