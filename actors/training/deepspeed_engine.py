"""DeepSpeed around a policy: configuration, steps that may be refused, gathering, state on disk."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import get_scheduler

from actors.training.learner_state import (
    Moments,
    let_go,
    load_weights_only,
    load_what_learns,
    reclaim,
)
from configs.schema.learner import LearnerConfig, OptimizerConfig
from models.inputs.packing import PackedBatch
from models.policy.checkpoint_weights import CheckpointWeight, sent_weights
from models.policy.loading import take_weight
from models.policy.policy import Policy
from rl.console.errors import UserError

_TAG = "learner"


def import_deepspeed() -> Any:
    """The deepspeed module, told about this machine first.

    On CPU it would compile a shared-memory collective at start-up, which takes minutes and a
    compiler; gloo does without.
    """
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def check_zero_settings(config: LearnerConfig, sharded: bool) -> None:
    """Check the recipe's own settings of DeepSpeed; `sharded`: ZeRO 3 shards some weights.

    Raises:
        UserError: DeepSpeed does not know one of them, or nothing would read it.
    """
    for name in config.zero_optimization:
        if name.startswith("stage3_") and not sharded:
            why = f"with zero_stage={config.zero_stage}, and only ZeRO 3 reads it; leave it out"
            raise UserError(f"learner.zero_optimization: {name} {why}")
    import_deepspeed()
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    try:
        DeepSpeedZeroConfig(stage=config.zero_stage, **config.zero_optimization)
    except ValueError as error:
        raise UserError(f"learner.zero_optimization: {error}") from error


def zero_settings(config: LearnerConfig, stage: int) -> dict[str, Any]:
    """DeepSpeed's zero_optimization at `stage`, with the recipe's own settings."""
    # Streams of their own overlap ZeRO 3's gathering with the work, where there are streams.
    overlap = stage == 3 and torch.cuda.is_available()
    return {"stage": stage, "overlap_comm": overlap, **config.zero_optimization}


def deepspeed_config(config: LearnerConfig, dtype: str) -> dict[str, Any]:
    """The DeepSpeed configuration of a recipe.

    The number of micro-batches changes from step to step, so DeepSpeed is told that the caller
    decides when an accumulation ends (`managed_gradient_accumulation`), and divides by nothing.
    """
    zero = zero_settings(config, config.zero_stage)
    # bfloat16 sums of many micro-batches are percents off. ZeRO 0 has no other sum.
    sums = {"grad_accum_dtype": "fp32"} if config.zero_stage else {}
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.optimizer.max_grad_norm,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "data_types": sums,
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "steps_per_print": 2**31,
    }


def _optimizer(policy: Policy, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, as usual for transformers."""
    learning = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=config.lr, betas=config.betas)


def shard(policy: Policy, config: dict[str, Any], dtype: str) -> None:
    """Deal the weights out over the ranks, one weight at a time.

    Left to itself DeepSpeed moves the policy to the device first, whole, where one that is sharded
    for its size does not fit; nor do whole copies in another precision fit into a node's memory.
    """
    one_by_one = _ConvertedOneByOne(policy, getattr(torch, dtype))
    import_deepspeed().zero.Init(module=one_by_one, config_dict_or_path=config)


class _ConvertedOneByOne(torch.nn.Module):
    """A policy whose weights take their precision when DeepSpeed comes to them."""

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        super().__init__()
        self._whole = [policy]  # not a part of this module
        self._dtype = dtype

    def parameters(self, recurse: bool = True) -> Iterator[torch.nn.Parameter]:
        """The policy's, each a copy: DeepSpeed writes into it on all ranks but the first, and
        changed pages of a file would stay in memory until all of it is let go."""
        for parameter in self._whole[0].parameters(recurse):
            take_weight(parameter, self._dtype)
            yield parameter


class DeepSpeedEngine:
    """One rank's share of a policy that DeepSpeed shards and updates."""

    def __init__(self, policy: Policy, config: LearnerConfig, dtype: str, total_steps: int) -> None:
        """Needs an initialised process group. `policy` may lie on the host: it is moved to the
        device. `total_steps`: what the schedule spans."""
        self._config = config
        optimizer = _optimizer(policy, config.optimizer)
        self._scheduler: Any = get_scheduler(
            config.optimizer.schedule,
            optimizer,
            num_warmup_steps=math.ceil(config.optimizer.warmup_ratio * total_steps),
            num_training_steps=total_steps,
        )
        self._weight_decays = [group["weight_decay"] for group in optimizer.param_groups]
        settings = deepspeed_config(config, dtype)
        if config.zero_stage == 3:
            shard(policy, settings, dtype)
        self._engine, *_ = import_deepspeed().initialize(
            model=policy,
            optimizer=optimizer,
            lr_scheduler=self._scheduler,
            config=settings,
            dist_init_required=False,
        )
        self._engine.checkpoint_engine.load = load_weights_only
        self.moments = Moments(self._engine)
        """AdamW's, which may wait on the host between updates."""
        for buffer in policy.buffers():  # ZeRO 3 forgets them
            buffer.data = buffer.data.to(self._engine.device)
        if hasattr(self._engine.optimizer, "check_grad_overflow"):
            # In float32 ZeRO 1 and 2 would step on a NaN gradient unless told to look.
            self._engine.optimizer.check_grad_overflow = True
        self._clipped_norm: float | None = None
        # ZeRO 0 in float32 clips by a norm that DeepSpeed's own function would keep to itself.
        self._engine.clip_fp32_gradients = self._clip
        self._world = int(os.environ["WORLD_SIZE"])

    @property
    def policy(self) -> Policy:
        """The wrapped policy; under ZeRO 3 its parameters are shards."""
        return self._engine.module

    @property
    def ranks_per_row(self) -> int:
        """Ranks that work on the same rows, each of which has their whole loss."""
        return self._config.ranks_per_row

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._engine.get_lr()[0])

    @property
    def updates(self) -> int:
        """Updates made so far, those before a checkpoint included."""
        return self._scheduler.last_epoch

    @property
    def device(self) -> torch.device:
        """Where the policy lies, and batches must."""
        return self._engine.device

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The policy's float32 [N] logprobs and entropies in nats, and float32 [N, K] logprobs of
        the batch's teacher's tokens, through DeepSpeed's hooks."""
        return self._engine(batch)

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradient to those of all ranks.

        Args:
            loss: float32 scalar. Where it is not finite, `step` will refuse the whole step.
        """
        if not loss.isfinite():
            loss = loss * float("nan")  # else some gradients might stay finite
        self._engine.backward(loss * self._world)  # DeepSpeed averages over ranks; sums are wanted

    def step(self) -> tuple[bool, float]:
        """Clip and update.

        Returns:
            Whether the step was refused for a gradient that is not finite (weights and optimiser
            state are then unchanged), and the global gradient norm before clipping.
        """
        if self._config.zero_stage == 0 and not self._finite_gradients():
            self._engine.zero_grad()
            return True, float("nan")
        self._engine.step()
        skipped = bool(getattr(self._engine.optimizer, "overflow", False))
        norm = self._engine.get_global_grad_norm()
        norm = self._clipped_norm if norm is None else norm
        return skipped, float("nan") if skipped or norm is None else float(norm)

    def _finite_gradients(self) -> bool:
        """ZeRO 0 in float32 never looks; gradients may still differ between ranks here."""
        parameters = [p for p in self.policy.parameters() if p.grad is not None]
        finite = torch.stack([p.grad.isfinite().all() for p in parameters]).all()
        verdict = finite.to(torch.float32)
        torch.distributed.all_reduce(verdict, op=torch.distributed.ReduceOp.MIN)
        return bool(verdict.item())

    def _clip(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(
            self.policy.parameters(), self._config.optimizer.max_grad_norm
        )
        self._clipped_norm = norm.item()

    def gathered(self, parameters: Sequence[Tensor]) -> AbstractContextManager[Any]:
        """A context in which these parameters are whole on every rank. A collective at ZeRO 3."""
        if self._config.zero_stage < 3:
            return nullcontext()
        return import_deepspeed().zero.GatheredParameters(list(parameters))

    def weights(self) -> dict[str, CheckpointWeight]:
        """The transformers model's weights by the names in its checkpoint, tied ones once."""
        return sent_weights(self.policy.model)

    def close(self) -> None:
        """Let go of everything, so that another engine may come; nothing works from then on."""
        let_go(self._engine)
        vars(self).clear()
        reclaim()

    def save(self, folder: Path) -> None:
        """Write every rank's shards of what learns; the rest is the start policy's."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, exclude_frozen_parameters=True)

    def restore(self, folder: Path) -> None:
        """Read every rank's shards. Optimizer and schedule go on by the recipe's values.

        Raises:
            FileNotFoundError: the folder holds no state that this many ranks can read.
            RuntimeError: it lacks something that learns, or holds what the policy has not.
        """
        self.moments.forget_place()
        path, _ = self._engine.load_checkpoint(
            str(folder), tag=_TAG, custom_load_fn=load_what_learns
        )
        if path is None:
            raise FileNotFoundError(
                f"{folder} holds no learner state for {self._world} ranks at ZeRO stage "
                f"{self._config.zero_stage}; resume with the recipe that wrote it"
            )
        self._apply_recipe()

    def _apply_recipe(self) -> None:
        """Put the recipe's values in place of those that came with the optimizer's state."""
        wanted = self._config.optimizer
        scheduler, groups = self._scheduler, self._engine.optimizer.param_groups
        for group, decay in zip(groups, self._weight_decays, strict=True):
            group.update(weight_decay=decay, betas=tuple(wanted.betas), initial_lr=wanted.lr)
        scheduler.base_lrs = [wanted.lr for _ in groups]
        done = scheduler.last_epoch
        rates = [wanted.lr * factor(done) for factor in scheduler.lr_lambdas]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates
