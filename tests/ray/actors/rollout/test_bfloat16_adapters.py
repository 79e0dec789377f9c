"""Adapters on a bfloat16 policy: engines serve changes that bfloat16 weights could not hold.

The learner keeps what the frozen tower makes of pictures, with the tower out of its sharded model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from models.policy.lora import is_adapter
from models.policy.parts import part_of
from models.policy.weight_sums import Sums, WeightSums, compare_sums, sum_and_squares
from models.tiny.model import build_tiny_vlm
from tests.ray.system import System, mean_gap, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def adapted(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=3)
    lora = {"rank": 2, "targets": ["q_proj", "v_proj", "gate_proj"]}  # k, up: fused with these
    policy = {"path": str(folder), "dtype": "bfloat16", "train": ["language"], "lora": lora}
    plan = recipe(folder, policy=policy, features={"keep": "memory"})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def _move_adapters(learner: Any) -> None:
    """Give every adapter a change of about a thousandth of its weight's spread."""
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in learner._engine.policy.model.named_parameters():
            if is_adapter(name) and ".lora_B." in name:
                parameter.copy_(3e-4 * torch.randn(parameter.shape, generator=chance))


def _sums(learner: Any, precision: torch.dtype) -> dict[str, Sums]:
    """Of the language model's layers' weights, merged in `precision`, by their names."""
    weights = learner._engine.weights()
    return {
        name: sum_and_squares(weight.merged(precision))
        for name, weight in weights.items()
        if part_of(name) == "language" and ".layers." in name
    }


def test_a_change_below_bfloat16s_steps_reaches_the_engine_whole(adapted: System) -> None:
    before = adapted.in_learner(_sums, torch.float32)
    adapted.in_learner(_move_adapters)
    adapted.send_weights()
    exact = adapted.in_learner(_sums, torch.float32)
    rounded = adapted.in_learner(_sums, torch.bfloat16)
    _, groups, held = ray.get(adapted.engines.handles[0].readback.remote(list(exact)))

    def layers_that_differ(sums: dict[str, Sums]) -> int:
        own = WeightSums()
        for name, each in sums.items():
            own.add(groups[name], each)
        return len(compare_sums(own, {group: held[group] for group in own}, 1e-10))

    assert layers_that_differ(exact) == 0
    assert layers_that_differ(rounded) == layers_that_differ(before) == 3


def test_engines_that_make_parameters_anew_get_the_siblings_of_what_learns_too(
    adapted: System,
) -> None:
    adapted.in_learner(_move_adapters)
    adapted.in_engine("reload_by_layers")
    verified = adapted.actors.weights.verified
    adapted.send_weights()  # reads back every layer, k and up with it
    assert adapted.actors.weights.verified == verified + 1
    assert mean_gap(adapted.gaps(adapted.sample([problem(1)]))) < 0.05


def test_exported_adapters_are_those_of_the_learner(adapted: System, tmp_path: Path) -> None:
    adapted.learners.export(tmp_path / "policy")
    assert (tmp_path / "policy/adapter/adapter_config.json").is_file()
    assert (tmp_path / "policy/adapter/adapter_model.safetensors").is_file()
