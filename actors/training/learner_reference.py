"""The reference policy on the learner's ranks, where no GPU has to hold it whole."""

from typing import Any

import torch
from torch import Tensor

from actors.training.deepspeed_engine import (
    DeepSpeedEngine,
    import_deepspeed,
    shard,
    zero_settings,
)
from configs.schema.learner import LearnerConfig
from models.inputs.packing import PackedBatch
from models.policy.lora import adapters_off
from models.policy.policy import Policy


class BaseReference:
    """The learner's own weights without its adapters: the start policy, where they alone learn."""

    def __init__(self, engine: DeepSpeedEngine) -> None:
        self._engine = engine

    @torch.no_grad()
    def __call__(self, batch: PackedBatch) -> Tensor:
        """float32 [N] logprobs of the batch's answers' tokens in nats. A collective at ZeRO 3."""
        with adapters_off(self._engine.policy.model):
            return self._engine.forward(batch.to(self._engine.device))[0]


class ShardedReference:
    """A frozen policy that ZeRO 3 shards over the ranks, whatever the learner's own stage."""

    def __init__(
        self, policy: Policy, learner: LearnerConfig, dtype: str, offload: bool = False
    ) -> None:
        """Needs an initialised process group. `policy` may lie on the host; `learner`: its settings
        of DeepSpeed; `offload`: the shards stay on the host, whatever the learner's own do, and a
        layer at a time is gathered on the device."""
        zero = zero_settings(learner, 3)
        zero.pop("offload_param", None)
        if offload:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        settings: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": zero,
            "bf16": {"enabled": dtype == "bfloat16"},
            "steps_per_print": 2**31,
        }
        policy.requires_grad_(False)
        shard(policy, settings, dtype)
        self._engine, *_ = import_deepspeed().initialize(
            model=policy, config=settings, dist_init_required=False
        )
        self._engine.eval()
        for buffer in policy.buffers():  # ZeRO 3 forgets them
            buffer.data = buffer.data.to(self._engine.device)

    @torch.no_grad()
    def __call__(self, batch: PackedBatch) -> Tensor:
        """float32 [N] logprobs of the batch's answers' tokens in nats. A collective."""
        return self._engine(batch.to(self._engine.device))[0]
