"""The section of a recipe about the reward model that grades chains of thought."""

from typing import Literal

from configs.schema.base import StrictModel


class QualityConfig(StrictModel):
    """RM: a grade of 0 to 5 for each chain (paper, section 2.2; its own model is not published)."""

    kind: Literal["rules"] = "rules"
    """rules: right answer, thoughts in their tags, steps that hold, a last step that yields the
    answer."""
