"""A whole system whose engines sit on the GPUs of learner ranks, which files play."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.cluster.plan import plan_of
from actors.rollout import vllm_engine
from actors.training.learner import LearnerRank
from actors.weight_transfer.rendezvous import Rendezvous
from configs.jobs.grpo import GRPORecipe
from rl.jobs import generate, grpo_actors
from rl.jobs.grpo_actors import running_actors
from tests.ray.played_gpus import leave_gpu_for_nccl, play_gpu
from tests.ray.system import OpenWorker, System

_SMALL = 2**16
"""Bytes of a buffer, so that the tiny policy fills many, one after another."""


class RankOnGPU(LearnerRank):
    """A rank on a GPU of its own."""

    def init_weight_transfer(self, meeting: Rendezvous) -> bool:
        from actors.weight_transfer import rendezvous

        rendezvous.BUFFER_BYTES = _SMALL
        if meeting.transport == "nccl":
            leave_gpu_for_nccl()
        else:
            play_gpu(f"GPU-{self._rank}", self._job.folder.parent)
        return super().init_weight_transfer(meeting)


class EngineOnGPUs(OpenWorker):
    """An engine on the GPUs of ranks, which can cease to take weights."""

    buffers_left = 10**6
    """How many it will take."""

    def __init__(self, *args: Any) -> None:
        own = vllm_engine.engine_args

        def of_probes(*said: Any, **more: Any) -> Any:
            found = own(*said, **more)
            found.worker_extension_cls = "tests.ray.played_gpus.GPUProbe"
            found.enable_sleep_mode = False  # which vLLM refuses on CPUs; the probe plays
            return found

        vllm_engine.engine_args = of_probes
        super().__init__(*args)

    async def update_weights(self, request: Any) -> None:
        """Take a buffer, or refuse to."""
        if self.buffers_left == 0:
            raise RuntimeError("this engine takes no more weights")
        self.buffers_left -= 1
        await super().update_weights(request)


@contextmanager
def sharing_system(plan: GRPORecipe, folder: Path, spare: Path) -> Iterator[System]:
    """Everything that `plan` asks for, planned as on GPUs that engines share with learner ranks."""
    on_gpus = replace(plan_of(plan, {}), transport="ipc", engines_sleep=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "RolloutWorker", EngineOnGPUs)
        patch.setattr(grpo_actors, "LearnerRank", RankOnGPU)
        with running_actors(plan, folder, on_gpus) as actors:
            actors.start()
            yield System(actors, folder, spare)
