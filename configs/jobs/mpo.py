"""The schema of a run of Mixed Preference Optimization (Skywork R1V2, arXiv:2504.16656)."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat

from configs.jobs.sft import HeldOutConfig, SFTRecipe
from configs.schema.base import StrictModel
from configs.schema.data import ChatLimits, PreferenceDataConfig
from configs.schema.learner import SFTLearnerConfig, SFTOptimizerConfig


class PreferenceLossConfig(StrictModel):
    """L = preference_weight L_pref + quality_weight L_qual + generation_weight L_gen. R1V2 states
    no values; the defaults are those of InternVL2.5-38B-MPO, which it cites (arXiv:2411.10442)."""

    preference_weight: NonNegativeFloat = 0.8
    """Of L_pref = -log sigmoid(r_c - r_r) (DPO), with r = beta log(pi / pi_0) of an answer."""
    quality_weight: NonNegativeFloat = 0.2
    """Of L_qual = -log sigmoid(r_c - delta) - log sigmoid(delta - r_r) (BCO)."""
    generation_weight: NonNegativeFloat = 1.0
    """Of L_gen = -log pi(chosen) / its tokens."""
    beta: PositiveFloat = 0.1
    """How much an answer's log-ratio to the start policy counts (silent; DPO's usual value)."""
    delta_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """delta, the moving average of the answers' r, keeps this share at each step (silent)."""


class MPOOptimizerConfig(SFTOptimizerConfig):
    """AdamW and its schedule."""

    lr: PositiveFloat = 1e-6
    """Peak learning rate (InternVL2.5-38B-MPO: 1e-6)."""


class MPOLearnerConfig(SFTLearnerConfig):
    """The DeepSpeed ranks that train: the workers of a Ray Train job."""

    optimizer: MPOOptimizerConfig = MPOOptimizerConfig()  # pyright: ignore[reportIncompatibleVariableOverride]


class HeldOutPairsConfig(HeldOutConfig):
    """Loss and accuracy on held-out pairs, before, during and after."""

    data: PreferenceDataConfig | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Held-out pairs; null: no evaluation."""


class PairLimits(ChatLimits):
    """What a pair may hold."""

    max_tokens: Annotated[int, Field(gt=0)] = 8192
    """Pairs longer than this, both chats and their image tokens together, are rejected, never
    truncated (InternVL2.5-38B-MPO: 8,192 a chat)."""


class MPORecipe(SFTRecipe):
    """One run of Mixed Preference Optimization. `batch_size` counts pairs."""

    # Sections are frozen, so narrower ones are safe.
    data: PreferenceDataConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    """Preference pairs to learn from."""
    loss: PreferenceLossConfig
    """What pairs are learned by; {} for all defaults."""
    prompt: PairLimits = PairLimits()  # pyright: ignore[reportIncompatibleVariableOverride]
    learner: MPOLearnerConfig = MPOLearnerConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    evaluation: HeldOutPairsConfig = HeldOutPairsConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
