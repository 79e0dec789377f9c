"""The reward section of a recipe."""

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from configs.strict import Strict


class RewardConfig(Strict):
    """Rule-based rewards and the pool that runs them."""

    weights: dict[str, NonNegativeFloat] = Field(default={"math": 0.9, "format": 0.1})
    """Weight of each reward by its name; an answer's reward is the weighted sum of its scores."""
    workers: PositiveInt = 1
    """Reward actors."""
    deadline_s: PositiveFloat = 5.0
    """Seconds one answer may take before its verifier is killed."""
