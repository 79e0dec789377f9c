"""How learner ranks and engines meet for the weights to travel.

Apart from how they travel, so that the driver tells it without importing vLLM.
"""

from dataclasses import dataclass
from typing import Any

from configs.schema.rollout import Transport

BUFFER_BYTES = 2**30
"""Of a buffer that weights travel in between GPUs; over `nccl` two are on their way."""


def shared_buffer_bytes(largest: int) -> int:
    """Of a rank's buffer that an engine's worker opens; what it opened it copies, so that as much
    again is on the same GPU. `largest`: bytes of the largest weight, which is never cut."""
    return max(BUFFER_BYTES, largest)


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """What every rank is told of it."""

    transport: Transport
    engines: list[Any]
    """Handles of the rollout actors."""
    ranks_per_engine: int
