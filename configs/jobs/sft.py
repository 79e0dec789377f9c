"""The schemas of supervised recipes: one run, and the passes of an alignment.

Numbers from the paper (arXiv 2504.05599) are cited where they are defaults.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from configs.schema.base import StrictModel
from configs.schema.data import ChatDataConfig, ChatLimits, PromptConfig
from configs.schema.features import FeaturesConfig
from configs.schema.learner import SFTLearnerConfig
from configs.schema.policy import Part, PolicyConfig
from configs.schema.run import MachineConfig, SFTLogConfig, TrainingRecipe


class HeldOutConfig(StrictModel):
    """Loss on held-out chats, before, during and after."""

    data: ChatDataConfig | None = None
    """Held-out chats; null: no evaluation."""
    every: PositiveInt = 50
    """Steps between evaluations."""
    chats: PositiveInt | None = None
    """Use only the first so many; null: all."""
    patience: PositiveInt | None = None
    """The run ends after so many evaluations in a row without a new lowest loss; null: never."""
    result: Literal["last", "best"] = "last"
    """Which policy the run hands on: that of its last step, or that of its lowest loss."""


class SupervisedRecipe(TrainingRecipe):
    """What all supervised jobs have in common."""

    batch_size: PositiveInt = 512
    """Chats of a step (paper, section 2.1: 512)."""
    policy: PolicyConfig
    prompt: ChatLimits = ChatLimits()
    learner: SFTLearnerConfig = SFTLearnerConfig()
    features: FeaturesConfig = FeaturesConfig()
    evaluation: HeldOutConfig = HeldOutConfig()
    cluster: MachineConfig = MachineConfig()
    # Sections are frozen, so a narrower one is safe.
    log: SFTLogConfig = SFTLogConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _policy_has_a_source(self) -> Self:
        if not self.policy.path:
            raise ValueError(
                "policy.path is empty: name a checkpoint folder or hub name to start from"
            )
        return self

    @model_validator(mode="after")
    def _longest_chat_fits_the_learner(self) -> Self:
        if self.prompt.max_tokens > self.learner.max_tokens_per_microbatch:
            raise ValueError(
                f"prompt.max_tokens={self.prompt.max_tokens} is more than learner."
                f"max_tokens_per_microbatch={self.learner.max_tokens_per_microbatch}; raise the "
                "one, or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _kept_features_come_from_a_frozen_tower(self) -> Self:
        self.features.check_frozen(self.policy.train)
        return self

    @property
    def encoding(self) -> PromptConfig:
        """The prompt's section as those want it who encode."""
        limits = {name: getattr(self.prompt, name) for name in ChatLimits.model_fields}
        return PromptConfig.model_validate(limits)

    @property
    def policy_folder(self) -> Path:
        """Where the run leaves its policy, in Hugging Face layout."""
        return self.run_folder / "policy"


class SFTRecipe(SupervisedRecipe):
    """One supervised run."""

    data: ChatDataConfig
    """Chats to learn from."""
    epochs: PositiveFloat = 1.0
    """Times that each chat is seen (paper, section 2.1: 1)."""
    steps: PositiveInt | None = None
    """Updates of the policy; null: epochs decides."""

    @model_validator(mode="after")
    def _profiled_step_comes(self) -> Self:
        if self.learner.profile:
            self.learner.profile.check_comes(self.steps)
        return self


class AlignPolicyConfig(PolicyConfig):
    """The model whose projector learns."""

    train: tuple[Part, ...] = ("projector",)
    """Parts that learn; the others stay frozen (paper, section 2.1: the projector)."""


class PassConfig(StrictModel):
    """One pass of an alignment."""

    data: ChatDataConfig
    """Chats to learn from."""
    lr: PositiveFloat | None = None
    """Peak learning rate; null: 2e-4 in the first pass (paper, section 2.1), and in later ones
    learner.optimizer.lr."""
    epochs: PositiveFloat = 1.0
    """Times that each chat is seen (paper, section 2.1: 1)."""
    steps: PositiveInt | None = None
    """Updates of the policy; null: epochs decides."""


class AlignRecipe(SupervisedRecipe):
    """Supervised passes one after another: all data, the better part, the chains (paper, 2.1)."""

    policy: AlignPolicyConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    features: FeaturesConfig = FeaturesConfig(keep="memory")
    passes: Annotated[tuple[PassConfig, ...], Field(min_length=1)]

    @property
    def runs(self) -> tuple[SFTRecipe, ...]:
        """Each pass as a run of its own, which starts from what the one before it handed on."""
        made: list[SFTRecipe] = []
        shared: dict[str, Any] = {
            name: getattr(self, name) for name in SupervisedRecipe.model_fields
        }
        for number, one in enumerate(self.passes, start=1):
            lr = one.lr or (2e-4 if number == 1 else self.learner.optimizer.lr)
            optimizer = self.learner.optimizer.model_copy(update={"lr": lr})
            before = {"path": str(made[-1].policy_folder)} if made else {}
            own: dict[str, Any] = {
                "data": one.data,
                "epochs": one.epochs,
                "steps": one.steps,
                "name": f"{self.name}/pass_{number}",
                "policy": self.policy.model_copy(update=before),
                "learner": self.learner.model_copy(update={"optimizer": optimizer}),
            }
            made.append(SFTRecipe.model_validate(shared | own))
        return tuple(made)
