"""A dry run says what would be started, on which device, and what it would hold."""

from pathlib import Path
from typing import Any

import pytest

from models.tiny.model import build_tiny_vlm
from rl.console.errors import DoesNotFit
from rl.console.progress import CONSOLE
from rl.jobs.dry_run import print_plan
from tests.unit.step_samples import short_recipe as recipe


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


def test_on_gpus_the_whole_reservation_is_told() -> None:
    told = shown(
        device="cuda", learner={"ranks": 4}, rollout={"workers": 2, "tensor_parallel_size": 2}
    )
    assert "device cuda, weights travel by nccl" in told
    assert "reserves 8 GPUs and 7 cores in all" in told
    assert "not estimated: no config of 'some/model' on this machine" in told
    assert "not compared with a machine: name one by cluster.nodes" in told


def test_memory_is_told_and_compared_with_the_machine_that_the_recipe_names(folder: Path) -> None:
    machine = {"gpus_per_node": 3, "gpu_memory_gib": 80}
    kl = {"kl": {"coef": 0.1}}
    told = shown(device="cuda", policy={"path": str(folder)}, loss=kl, cluster=machine)
    assert "parameters, billions: vision 0.000" in told
    assert "learner rank" in told and "engine" in told and "reference" in told
    assert told.endswith("fits 1 node(s) with 3 GPUs, GPUs of 80 GiB")


def test_what_does_not_fit_is_refused_behind_its_tables(folder: Path) -> None:
    changes = {"device": "cuda", "policy": {"path": str(folder)}}
    with pytest.raises(DoesNotFit, match=r"learner rank needs about .*a GPU has 3.*No change"):
        shown(**changes, cluster={"gpus_per_node": 2, "gpu_memory_gib": 3})
    with pytest.raises(DoesNotFit, match=r"asks for 3 GPU.*fits: rollout.workers=1$"):
        shown(**changes, rollout={"workers": 2}, cluster={"gpus_per_node": 2})
