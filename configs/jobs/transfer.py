"""The schema of the laptop's transfer experiment."""

from pydantic import PositiveInt

from configs.schema.run import RunRecipe, SFTLogConfig
from configs.schema.tiny import TinyPathConfig


class TransferRecipe(RunRecipe):
    """Does a projector aligned with one language model serve another? On the laptop's model."""

    path: TinyPathConfig = TinyPathConfig()
    problems: PositiveInt = 400
    """Held-out problems of each kind, with pictures and in words, asked at each station."""
    # Sections are frozen, so a narrower one is safe.
    log: SFTLogConfig = SFTLogConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
