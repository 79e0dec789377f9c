"""An engine of two ranks: each holds a half of the weights, and what is learned reaches both."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.ray.actors.rollout.served import PICTURES, check_a_step_is_served_as_it_was_learned
from tests.ray.system import System, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def parallel(
    cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    rollout = {
        "tensor_parallel_size": 2,
        "max_new_tokens": 24,
        "max_num_seqs": 64,
        "enforce_eager": True,
    }
    plan = recipe(vlm_folder, loss={"kl": {"coef": 0.0}}, rollout=rollout)
    with running_system(plan, vlm_folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def test_both_ranks_of_an_engine_serve_what_was_learned(parallel: System) -> None:
    """The sync reads both halves back, and compares their sums with what was sent."""
    assert ray.get(parallel.engines.handles[0].wait_ready.remote()) == 2
    check_a_step_is_served_as_it_was_learned(parallel, PICTURES)
