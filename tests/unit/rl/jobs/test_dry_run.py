"""A dry run says what would be started, on which device, and what it would hold."""

from pathlib import Path
from typing import Any

import pytest

from actors.cluster.plan import plan_of
from models.tiny.model import build_tiny_vlm
from rl.console.errors import DoesNotFit
from rl.console.progress import CONSOLE
from rl.jobs.dry_run import memory_lines, print_plan
from tests.unit.step_samples import recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=0)
    return folder


def shown(**changes: Any) -> str:
    with CONSOLE.capture() as captured:
        print_plan(recipe(**changes))
    return " ".join(captured.get().split())


def test_a_device_that_was_only_assumed_is_told() -> None:
    told = shown(learner={"ranks": 4})
    assert "device cpu, weights travel by gloo" in told
    assert "device=auto was taken for a machine without GPUs" in told
    assert "device=auto was taken" not in shown(device="cpu")


def test_on_gpus_the_whole_reservation_is_told(folder: Path) -> None:
    told = shown(
        device="cuda", learner={"ranks": 4}, rollout={"workers": 2, "tensor_parallel_size": 2}
    )
    assert "device cuda, weights travel by nccl" in told
    assert "reserves 8 GPUs and 7 cores in all" in told
    assert "not estimated: no config of 'some/model' on this machine" in told


def test_memory_is_told_where_the_policy_is_at_hand(folder: Path) -> None:
    parts, learner, engine, compared = memory_lines(recipe(policy={"path": str(folder)}))
    assert parts.startswith("parameters, billions: vision 0.000")
    assert "a learner rank holds about" in learner and "an engine holds" in engine
    assert compared.endswith("this machine has none: name cluster.gpu_memory_gib")


def test_estimates_are_compared_with_the_gpu_that_the_recipe_names(folder: Path) -> None:
    policy, kl = {"path": str(folder)}, {"kl": {"coef": 0.1}}
    fits = memory_lines(recipe(policy=policy, loss=kl, cluster={"gpu_memory_gib": 80}))
    assert fits[-1] == "fits a GPU of 80 GiB"
    assert any(line.startswith("a reference actor holds") for line in fits)
    with pytest.raises(DoesNotFit, match=r"GPU has 0 GiB, and a learner rank \(raise learner"):
        memory_lines(recipe(policy=policy, cluster={"gpu_memory_gib": 0.001}))


def test_a_reference_on_the_learners_ranks_reserves_nothing(folder: Path) -> None:
    kl = {"kl": {"coef": 0.1}}
    lora = {"path": str(folder), "train": ["language"], "lora": {"rank": 1}}
    sharded = {"reference": {"place": "learner"}}
    for changes, roles in (({}, 1), ({"policy": lora}, 0), (sharded, 0)):
        plan = plan_of(recipe(loss=kl, **changes), {})
        assert sum(actors.role == "reference" for actors in plan.actors) == roles


def test_adapters_are_named_and_leave_little_that_learns(folder: Path) -> None:
    policy = {"path": str(folder), "train": ["language"], "lora": {"rank": 1}}
    adapted = recipe(policy=policy)
    learner = plan_of(adapted, {}).role("learner")
    assert learner.what.endswith("trains language (language by adapters of rank 1)")
    few = memory_lines(adapted)[0]
    assert float(few.split("; ")[1].removesuffix(" learn")) < 0.00002


def test_an_engine_too_wide_for_the_policy_is_refused(folder: Path) -> None:
    wide = recipe(policy={"path": str(folder)}, rollout={"tensor_parallel_size": 3})
    with pytest.raises(DoesNotFit, match=r"tensor_parallel_size=3 does not divide the policy's 4"):
        memory_lines(wide)
