"""Another family than the laptop's own learns through the same code, with the real engine."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.families import FAMILIES
from tests.ray.actors.rollout.served import PICTURES, check_a_step_is_served_as_it_was_learned
from tests.ray.system import System, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def family(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("family")
    FAMILIES["qwen2.5-vl"](folder)
    plan = recipe(folder, loss={"kl": {"coef": 0.0}})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def _model_type(learner: Any) -> str:
    return learner._engine.policy.model.config.model_type


def test_a_step_of_grpo_on_another_family_is_served_as_it_was_learned(family: System) -> None:
    assert family.in_learner(_model_type) == "qwen2_5_vl"
    check_a_step_is_served_as_it_was_learned(family, PICTURES)


def test_engines_of_this_family_keep_everything_in_weights_and_buffers(family: System) -> None:
    """So that nothing is lost where memory is given back and all weights are sent anew."""
    assert family.in_engine("loose_tensors") == []
