"""A learner's state outside its updates: read from disk, AdamW's moments on the host, its end."""

import gc
from inspect import getclosurevars, isfunction
from typing import Any, Literal

import torch
from torch import Tensor


def load_what_learns(src: dict[str, Tensor], dst: torch.nn.Module) -> None:
    """Load a checkpoint's weights into the policy, where only what is frozen may be missing."""
    missing, unexpected = dst.load_state_dict(src, strict=False)
    learns = {name for name, parameter in dst.named_parameters() if parameter.requires_grad}
    lacking = sorted(learns.intersection(missing))
    if lacking or unexpected:
        raise RuntimeError(
            f"the checkpoint is of another policy: it lacks {lacking[:5]}, which learn here, and "
            f"has {list(unexpected)[:5]}, which this policy has not"
        )


def load_weights_only(path: str, map_location: Any = None) -> Any:
    """What DeepSpeed has written to `path`. Its own way would run code that a file brings."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
        return torch.load(path, map_location=map_location, weights_only=True)


class Moments:
    """AdamW's moments of one rank, which may wait on the host between updates."""

    def __init__(self, engine: Any) -> None:
        """`engine`: DeepSpeed's."""
        self._engine = engine
        self._place: Literal["host", "device"] | None = None

    def offload(self) -> None:
        """Move them to the host, until `reload`; what waits there already is not moved again."""
        if self._place == "host":
            return
        for parameter in self._engine.module.parameters():
            # Views by which DeepSpeed shows each weight its own: they would keep the whole.
            if views := getattr(getattr(parameter, "_hp_mapping", None), "optim_fragment", None):
                views.clear()
        self._move(torch.device("cpu"))
        self._place = "host"

    def reload(self) -> None:
        """Bring them back to the device, if they are not there."""
        if self._place != "device":
            self._move(self._engine.device)
        self._place = "device"

    def forget_place(self) -> None:
        """For whoever lets DeepSpeed put them elsewhere."""
        self._place = None

    def _move(self, device: torch.device) -> None:
        for state in self._engine.basic_optimizer.state.values():
            for name, tensor in state.items():
                if isinstance(tensor, Tensor) and tensor.dim():  # the count of steps stays
                    state[name] = tensor.to(device, copy=True)


def let_go(engine: Any) -> None:
    """End a DeepSpeed engine, and break what would keep its policy in memory for good.

    ZeRO 3 lists the modules whose forward pass is under way, and never takes off the policy, nor
    layers whose recomputation stops early, as it does where activations are made again; and it
    caches which weights a module may release, by the module, in a class (DeepSpeed 0.19.8).
    """
    engine.destroy()
    from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
    from deepspeed.runtime.zero.partitioned_param_coordinator import (
        PartitionedParameterCoordinator,
    )

    own = set(engine.module.modules())
    FWD_MODULE_STACK[:] = [module for module in FWD_MODULE_STACK if module not in own]
    for method in vars(PartitionedParameterCoordinator).values():
        within = getclosurevars(method).nonlocals if isfunction(method) else {}
        if hasattr(within.get("func"), "cache_clear"):
            within["func"].cache_clear()  # others' answers are found again


def reclaim() -> None:
    """Give back at once what only rings of references hold, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
