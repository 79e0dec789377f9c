"""How learner ranks and engines meet for the weights to travel.

Apart from how they travel, so that the driver tells it without importing vLLM.
"""

from dataclasses import dataclass
from typing import Any

from configs.schema.rollout import Transport


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """What every rank is told of it."""

    transport: Transport
    engines: list[Any]
    """Handles of the rollout actors."""
    ranks_per_engine: int
