"""The section of a recipe about what a frozen vision tower makes of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from configs.schema.base import StrictModel
from configs.schema.policy import Part


class FeaturesConfig(StrictModel):
    """What a frozen vision tower makes of each image, computed once and kept."""

    keep: Literal["off", "memory", "disk"] = "off"
    """off: the tower runs at each step; memory: of each rank; disk: shared by ranks and runs. Where
    the projector is frozen, too, what leaves it is kept, and from disk engines read it in place of
    pixels; with memory they read pixels."""
    max_bytes: PositiveInt = 8 * 2**30
    """Most bytes kept, by each rank in memory, by all of them on disk; what does not fit is
    computed again."""
    folder: Path | None = None
    """Where features lie on disk, reached by every node; null: the user's cache folder."""

    def check_frozen(self, train: Sequence[Part]) -> None:
        """Raise ValueError if features are kept of a tower that learns."""
        if self.keep != "off" and "vision" in train:
            raise ValueError(
                f"features.keep={self.keep} with policy.train={list(train)}: a tower that learns "
                "gives other features at each step; set features.keep to off, or leave vision out "
                "of policy.train"
            )

    def reach_engines(self, train: Sequence[Part]) -> bool:
        """Whether engines of a policy that learns `train` get what is kept in place of pixels."""
        return self.keep == "disk" and "vision" not in train and "projector" not in train
