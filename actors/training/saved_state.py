"""Reading what DeepSpeed has saved of a learner."""

from typing import Any

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
