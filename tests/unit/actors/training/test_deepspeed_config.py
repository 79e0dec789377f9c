"""What DeepSpeed is told of a recipe."""

import pytest
import torch

from actors.training.deepspeed_engine import check_zero_settings, deepspeed_config
from configs.schema.learner import LearnerConfig
from rl.console.errors import UserError


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gathering_overlaps_the_work_where_weights_are_sharded_and_there_are_streams(
    stage: int, gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    zero = deepspeed_config(LearnerConfig(zero_stage=stage), "bfloat16")["zero_optimization"]
    assert zero["overlap_comm"] is (stage == 3 and gpu)


def test_a_setting_of_the_recipe_s_own_outweighs_ours() -> None:
    config = LearnerConfig(zero_stage=2, zero_optimization={"overlap_comm": True})
    assert deepspeed_config(config, "bfloat16")["zero_optimization"]["overlap_comm"] is True


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_are_summed_in_float32_where_deepspeed_has_another_sum(stage: int) -> None:
    assert deepspeed_config(LearnerConfig(zero_stage=stage), "bfloat16")["data_types"] == {
        "grad_accum_dtype": "fp32"
    }


def test_settings_of_zero_3_are_refused_where_nothing_is_sharded_by_it() -> None:
    config = LearnerConfig(zero_optimization={"stage3_max_live_parameters": 1000})
    check_zero_settings(config, sharded=True)
    with pytest.raises(UserError, match=r"stage3_max_live_parameters with zero_stage=2"):
        check_zero_settings(config, sharded=False)
