"""What a recipe may say of the optimizer and its schedule."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.jobs.mpo import MPOLearnerConfig
from configs.schema.learner import (
    GRPOLearnerConfig,
    LearnerConfig,
    OptimizerConfig,
    SFTLearnerConfig,
    SFTOptimizerConfig,
)


def test_a_constant_rate_with_a_warm_up_is_refused_since_it_would_not_rise() -> None:
    with pytest.raises(ValidationError, match="set schedule=constant_with_warmup"):
        OptimizerConfig(warmup_ratio=0.05)


@pytest.mark.parametrize(
    ("optimizer", "share"),
    [
        (OptimizerConfig(), 0.0),
        (OptimizerConfig(schedule="constant_with_warmup"), 0.03),
        (SFTOptimizerConfig(), 0.03),
        (SFTOptimizerConfig(schedule="constant"), 0.0),
        (SFTOptimizerConfig(schedule="linear", warmup_ratio=0.1), 0.1),
    ],
)
def test_schedules_that_warm_up_take_the_paper_s_share_for_it(
    optimizer: OptimizerConfig, share: float
) -> None:
    assert optimizer.warmup_ratio == share


@pytest.mark.parametrize("kind", [GRPOLearnerConfig, SFTLearnerConfig, MPOLearnerConfig])
def test_ranks_that_share_rows_are_whole_groups(kind: type[LearnerConfig]) -> None:
    assert kind(ranks=6, sequence_parallel_size=3).ranks_per_row == 3
    with pytest.raises(ValidationError, match=r"size=4 with ranks=6.*multiple"):
        kind(ranks=6, sequence_parallel_size=4)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"stage": 1}, r"stage is decided by learner\.zero_stage"),
        ({"offload_optimizer": {"device": "cpu"}}, r"is decided by learner\.offload"),
        ({"cpu_offload": True}, r"is decided by learner\.offload"),
        ({"zero_hpz_partition_size": 8}, r"no plan counts .*or keep weights in host memory by"),
        ({"offload_param": {"device": "nvme"}}, r"zero_stage=3 and offload=true"),
    ],
)
def test_settings_that_would_hold_memory_unseen_are_refused(
    setting: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        LearnerConfig(zero_stage=3, offload=True, zero_optimization=setting)


@pytest.mark.parametrize("lacking", [{"zero_stage": 2}, {"offload": False}])
def test_weights_in_host_memory_want_shards_and_the_optimizer_there(
    lacking: dict[str, Any],
) -> None:
    on_host = {"offload_param": {"device": "cpu"}}
    fields = {"zero_stage": 3, "offload": True, "zero_optimization": on_host}
    assert LearnerConfig.model_validate(fields).offloads_weights
    with pytest.raises(ValidationError, match="zero_stage=3 and offload=true"):
        LearnerConfig.model_validate(fields | lacking)


@pytest.mark.parametrize("kind", [OptimizerConfig, SFTOptimizerConfig])
def test_a_section_that_was_written_out_reads_as_it_was(kind: type[OptimizerConfig]) -> None:
    assert kind.model_validate(kind().model_dump()) == kind()
