"""The reference policy on the learner's ranks, where no GPU has to hold it whole."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from actors.training.deepspeed_engine import (
    DeepSpeedEngine,
    import_deepspeed,
    shard,
    zero_settings,
)
from configs.schema.learner import LearnerConfig
from models.inputs.packing import PackedBatch
from models.policy.lora import adapters_off, is_adapter
from models.policy.policy import Policy


class BaseReference:
    """The learner's own weights with what learns as it began: adapters off, a projector's own."""

    def __init__(self, engine: DeepSpeedEngine) -> None:
        """`engine`: holds the start policy still. A collective at ZeRO 3."""
        self._engine = engine
        named = engine.policy.model.named_parameters()
        learns = [p for name, p in named if p.requires_grad and not is_adapter(name)]
        with engine.gathered(learns):
            self._start = {own: own.detach().clone() for own in learns}

    @torch.no_grad()
    def __call__(self, batch: PackedBatch) -> Tensor:
        """float32 [N] logprobs of the batch's answers' tokens in nats. A collective at ZeRO 3."""
        with adapters_off(self._engine.policy.model), self._as_begun():
            return self._engine.forward(batch.to(self._engine.device))[0]

    @contextmanager
    def _as_begun(self) -> Generator[None]:
        """For a while what learns has its first values. What the optimizer adds to stays."""
        now = self._exchanged(self._start)
        try:
            yield
        finally:
            self._exchanged(now)

    def _exchanged(self, values: Mapping[Parameter, Tensor]) -> dict[Parameter, Tensor]:
        """Write values into parameters; what these had, whole on every rank."""
        had: dict[Parameter, Tensor] = {}
        with _written(list(values)):
            for parameter, value in values.items():
                had[parameter] = parameter.detach().clone()
                parameter.copy_(value)
        return had


def _written(parameters: list[Parameter]) -> AbstractContextManager[Any]:
    """A context in which they are whole, behind which what every rank wrote into them stays."""
    if not any(hasattr(parameter, "ds_tensor") for parameter in parameters):
        return nullcontext()
    return import_deepspeed().zero.GatheredParameters(parameters, modifier_rank=0)


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
