"""Small values exchanged between the ranks of the process group; each call is a collective."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(values: Tensor | Sequence[float], device: torch.device) -> list[float]:
    """Each value, or entry of a [n] tensor, summed over the ranks in float64."""
    sums = torch.as_tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def broadcast_from_rank0(value: Any) -> Any:
    """Rank 0's value on every rank; it must pickle."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
