"""A learner's engine that is closed leaves its memory to the next one."""

import gc
import multiprocessing
import os
import weakref
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from actors.training.deepspeed_engine import DeepSpeedEngine
from benchmarks.gpu_learner import IMAGE, SIZES, batches, model_of, step
from configs.schema.learner import LearnerConfig
from models.policy.loading import recompute_activations
from models.policy.policy import Policy


def _left_of_engines(stages: list[int]) -> dict[int, tuple[int, int]]:
    """Tensors of engines, which follow one another in this process: before and after `close`."""
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    counts = {stage: _before_and_after(stage) for stage in stages}
    dist.destroy_process_group()
    return counts


def _before_and_after(stage: int) -> tuple[int, int]:
    others = {id(thing) for thing in gc.get_objects()}
    engine = _engine(LearnerConfig(zero_stage=stage, zero_optimization=SMALL if stage else {}))
    for _ in range(3):  # ZeRO 3 remembers the order of its layers from the second on
        step(engine, batches(1024, shared=True), torch.float32)
    own = [
        weakref.ref(thing)
        for thing in gc.get_objects()
        if isinstance(thing, torch.Tensor) and thing.numel() and id(thing) not in others
    ]
    engine.close()
    return len(own), sum(tensor() is not None for tensor in own)


SMALL = {"reduce_bucket_size": 10**6, "allgather_bucket_size": 10**6}


def _engine(config: LearnerConfig) -> DeepSpeedEngine:
    model = model_of(SIZES["tiny"], 1024, torch.device("cpu"), torch.float32)
    recompute_activations(model)
    encoder: Any = SimpleNamespace(image_token_ids=(IMAGE,), has_vision=False)
    return DeepSpeedEngine(Policy(model, encoder, chunk=64), config, "float32", 10)


def test_no_tensor_outlives_the_closing_of_its_engine() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        left = pool.submit(_left_of_engines, [3, 2, 0]).result()
    for stage, (before, after) in left.items():
        assert before > 50 and after == 0, (stage, before, after)
