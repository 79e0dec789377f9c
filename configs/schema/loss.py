"""Recipe section: the GRPO loss."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from configs.schema.base import StrictModel
from configs.schema.teacher import DistillationLossConfig


class KLConfig(StrictModel):
    """Divergence from the frozen start policy."""

    coef: NonNegativeFloat = 0.0
    """Weight of the KL term; 0: no reference policy is started (R1V3: none)."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """k1 = log r, k2 = (log r)^2 / 2, k3 = 1/r - 1 + log r, with r = policy / reference."""


class ReferenceConfig(StrictModel):
    """The frozen start policy, which is there where loss.kl.coef is not 0."""

    place: Literal["auto", "actor", "learner"] = "auto"
    """actor: a process with one device, which reads groups while others are being written; learner:
    the learner ranks, as a copy that ZeRO 3 shards over them, or as their own weights with the
    adapters off where nothing else learns. auto: learner in that last case, actor otherwise."""
    restarts: NonNegativeInt = 3
    """Times that a dead actor is started again before the run ends."""


class LossConfig(StrictModel):
    """What an answer's tokens are learned by."""

    kind: Literal["grpo", "distill", "mixed"] = "grpo"
    """grpo: the clipped policy-gradient loss on rewards; distill: the divergence from a teacher, on
    all answers; mixed: the sum of both."""
    clip_low: PositiveFloat = 0.2
    """The probability ratio is clipped from below at 1 - clip_low (R1V3: 0.2)."""
    clip_high: PositiveFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high (R1V3: 0.2)."""
    advantage: Literal["group_norm", "group_mean"] = "group_norm"
    """group_norm: (r - mean) / std (GRPO); group_mean: r - mean (Dr. GRPO)."""
    kl: KLConfig = KLConfig()
    distill: DistillationLossConfig = DistillationLossConfig()

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher's probabilities enter."""
        return self.kind != "grpo"
