"""What the plan says of a learner's memory, beside what torch counts.

`.venv/bin/python -m pytest -m gpu tests/gpu/test_memory.py`.
"""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from actors.training.deepspeed_engine import DeepSpeedEngine
from benchmarks.gpu_learner import (
    IMAGE,
    IMAGE_TOKENS,
    SIZES,
    VOCABULARY,
    Size,
    batches,
    model_of,
    step,
)
from configs.schema.learner import LearnerConfig
from configs.schema.policy import PolicyConfig
from models.policy.loading import recompute_activations
from models.policy.memory import MemoryEstimator
from models.policy.policy import Policy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

TOKENS = 8192


@pytest.fixture(scope="module")
def ranks() -> Iterator[None]:
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # which DeepSpeed asks for
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group("nccl", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def estimated_and_measured(size: Size, learner: LearnerConfig, device: torch.device) -> list[float]:
    """Bytes of a learner's two steps on a full micro-batch: by the plan, and by torch."""
    dtype = torch.bfloat16
    model = model_of(size, VOCABULARY, device, dtype)
    plan = PolicyConfig(train=("vision", "projector", "language"))
    estimator = MemoryEstimator(model.config, plan)
    estimate = estimator.learner(learner, image_tokens=IMAGE_TOKENS).total * 2**30
    recompute_activations(model)
    encoder: Any = SimpleNamespace(image_token_ids=(IMAGE,), has_vision=False)
    policy = Policy(model, encoder, chunk=learner.logprob_chunk)
    engine = DeepSpeedEngine(policy, learner, "bfloat16", 1000)
    for _ in range(2):  # the optimizer's state comes with the first
        step(engine, batches(TOKENS, shared=True), dtype)
    measured = torch.cuda.max_memory_allocated(device)
    engine.close()
    return [estimate, float(measured)]


@needs_gpu
@pytest.mark.parametrize("stage", [2, 3])
def test_a_learner_takes_what_the_plan_says(ranks: None, stage: int) -> None:
    torch.cuda.reset_peak_memory_stats()
    learner = LearnerConfig(zero_stage=stage, max_tokens_per_microbatch=TOKENS)
    device = torch.device("cuda:0")
    estimate, measured = estimated_and_measured(SIZES["1.5b"], learner, device)
    assert 0.6 * estimate < measured < 1.1 * estimate, (estimate / 2**30, measured / 2**30)
