"""What a recipe may say of the optimizer and its schedule."""

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


@pytest.mark.parametrize("kind", [OptimizerConfig, SFTOptimizerConfig])
def test_a_section_that_was_written_out_reads_as_it_was(kind: type[OptimizerConfig]) -> None:
    assert kind.model_validate(kind().model_dump()) == kind()
