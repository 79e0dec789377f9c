"""A learner's memory, counted in a process of its own that frees the GPU with its end."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from actors.training.deepspeed_engine import DeepSpeedEngine
from benchmarks.gpu_learner import IMAGE, IMAGE_TOKENS, SIZES, VOCABULARY, batches, model_of, step
from configs.schema.learner import LearnerConfig
from configs.schema.policy import PolicyConfig
from models.policy.loading import recompute_activations
from models.policy.memory import MemoryEstimator
from models.policy.policy import Policy


def estimated_and_measured(size: str, learner: LearnerConfig) -> tuple[float, float]:
    """Bytes of a learner's two steps on a full micro-batch: by the plan, and by torch."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_count, size, learner).result()


def _count(size: str, learner: LearnerConfig) -> tuple[float, float]:
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # which DeepSpeed asks for
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda:0" if on_gpu else "cpu")
    dtype = torch.bfloat16
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=0, world_size=1)
    model = model_of(SIZES[size], VOCABULARY, device, dtype)
    estimator = MemoryEstimator(
        model.config, PolicyConfig(train=("vision", "projector", "language"))
    )
    estimate = estimator.learner(learner, image_tokens=IMAGE_TOKENS).total * 2**30
    recompute_activations(model)
    encoder: Any = SimpleNamespace(image_token_ids=(IMAGE,), has_vision=False)
    policy = Policy(model, encoder, chunk=learner.logprob_chunk)
    engine = DeepSpeedEngine(policy, learner, "bfloat16", 1000)
    for _ in range(2):  # the optimizer's state comes with the first
        step(engine, batches(learner.max_tokens_per_microbatch, shared=True), dtype)
    measured = torch.cuda.max_memory_allocated(device) if on_gpu else 0
    dist.destroy_process_group()
    return estimate, float(measured)
