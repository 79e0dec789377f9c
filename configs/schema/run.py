"""Recipe sections and types that every job has: device, log, checkpoints."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from configs.schema.base import StrictModel

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class CheckpointConfig(StrictModel):
    """What is kept on disk."""

    every: PositiveInt = 20
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept."""


class LogConfig(StrictModel):
    """Where a run leaves its traces."""

    folder: Path = Path("runs")
    """Runs lie in folders of their names below this one."""
    wandb: bool = True
    """Log to Weights & Biases; offline where no key is set."""
    samples_per_step: PositiveInt | None = None
    """Answers written to samples.jsonl each step; null: all."""


class SFTLogConfig(LogConfig):
    """Where a run leaves its traces."""

    samples_per_step: PositiveInt | None = 1
    """Chats of the first rank written to samples.jsonl each step with their loss; null: all."""


Device = Literal["cpu", "cuda"]
