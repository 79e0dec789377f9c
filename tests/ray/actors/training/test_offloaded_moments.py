"""The optimizer's moments may wait on the host between updates, and change nothing by it."""

from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from actors.training.learner import LearnerRank
from configs.jobs.grpo import GRPORecipe
from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import PlainTorch, exported, largest_gap, plan_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def _kept_by_others(rank: LearnerRank) -> tuple[int, int]:
    """How many moments there are where updates leave them, and how many of those tensors are still
    in memory once they were copied to the host."""
    moments = [
        StorageWeakRef(state[name].untyped_storage())
        for state in rank._engine._engine.basic_optimizer.state.values()
        for name in ("exp_avg", "exp_avg_sq")
    ]
    rank._engine.moments.offload()
    return len(moments), sum(not each.expired() for each in moments)


@pytest.mark.parametrize(
    "learner",
    [{"zero_stage": 0}, {"zero_stage": 2}, {"zero_stage": 3, "ranks": 2}],
)
def test_moments_that_wait_elsewhere_between_updates_change_nothing_and_are_let_go(
    learner: dict[str, Any], hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    fields = plan_for(vlm_folder, learner).model_dump()
    fields["policy"]["dtype"] = "bfloat16"
    learned: list[dict[str, torch.Tensor]] = []
    for waits in (True, False):
        plan = GRPORecipe.model_validate(fields | {"sync": {"offload_optimizer": waits}})
        group = hosts.group(plan, vlm_folder)
        group.update(plain.rows)
        group.save(tmp_path / f"saved_{waits}")
        group.update(plain.rows)
        group.restore(tmp_path / f"saved_{waits}")
        group.update(plain.rows)
        learned.append(exported(group, tmp_path / f"learned_{waits}"))
    assert largest_gap(*learned) == 0.0
    there, kept = ray.get(group._ranks[0].__ray_call__.remote(_kept_by_others))
    assert there > 0 == kept
