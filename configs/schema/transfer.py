"""The schema of the laptop's transfer experiment."""

from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from configs.schema.base import StrictModel
from configs.schema.run import SFTLogConfig
from configs.schema.tiny import TinyPathConfig


class TransferRecipe(StrictModel):
    """Does a projector aligned with one language model serve another? On the laptop's model."""

    name: str
    """The run's name, and its folder's."""
    seed: NonNegativeInt = 0
    """Decides the parts, and orders the chats."""
    path: TinyPathConfig = TinyPathConfig()
    problems: PositiveInt = 400
    """Held-out problems of each kind, with pictures and in words, asked at each station."""
    log: SFTLogConfig = SFTLogConfig()

    @property
    def run_folder(self) -> Path:
        """Where the stations, their logs and the summary lie."""
        return self.log.folder / self.name
