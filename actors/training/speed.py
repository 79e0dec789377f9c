"""How fast updates go, and what memory they take."""

import resource
import time

import torch
import torch.distributed as dist

from actors.training.collectives import sum_over_ranks
from models.inputs.packing import PackedBatch
from models.policy.flops import TrainingFlops


class UpdateSpeed:
    """Counts one rank's micro-batches from its making on."""

    def __init__(
        self, flops: TrainingFlops, peak_flops: float | None, ranks_per_row: int = 1
    ) -> None:
        """`peak_flops`: FLOP/s that one device could do; None: not known. `ranks_per_row`: those
        that count the same micro-batches."""
        self._flops = flops
        self._peak = peak_flops
        self._ranks_per_row = ranks_per_row
        self._began = time.perf_counter()
        self._tokens = 0.0
        self._done = 0.0

    def add(self, batch: PackedBatch) -> None:
        """Count a micro-batch."""
        tokens, flops = self._flops(batch)
        self._tokens += tokens / self._ranks_per_row
        self._done += flops / self._ranks_per_row

    def metrics(self, device: torch.device) -> dict[str, float]:
        """tokens_per_s of all ranks, and mfu where the device's peak is known. A collective."""
        tokens, flops = sum_over_ranks([self._tokens, self._done], device)
        seconds = time.perf_counter() - self._began
        speed = {"tokens_per_s": tokens / seconds}
        if self._peak is not None:
            speed["mfu"] = flops / (seconds * self._peak * dist.get_world_size())
        return speed


def peak_memory_bytes() -> int:
    """Most that this process has held of its GPU, or of the machine's memory without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
