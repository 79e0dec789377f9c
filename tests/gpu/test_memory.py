"""What the plan says of a learner's memory, beside what torch counts.

`.venv/bin/python -m pytest -m gpu tests/gpu/test_memory.py`.
"""

import pytest
import torch

from configs.schema.learner import LearnerConfig
from tests.gpu.learner_memory import estimated_and_measured

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("stage", [2, 3])
def test_a_learner_takes_what_the_plan_says(stage: int) -> None:
    learner = LearnerConfig(zero_stage=stage, max_tokens_per_microbatch=8192)
    estimate, measured = estimated_and_measured("1.5b", learner)
    assert 0.6 * estimate < measured < 1.1 * estimate, (estimate / 2**30, measured / 2**30)
