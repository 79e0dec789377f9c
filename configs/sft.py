"""The schemas of supervised recipes: one run, and the passes of an alignment.

Numbers from the paper (arXiv 2504.05599) are cited where they are defaults.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from configs.policy import Part, PolicyConfig
from configs.schema import (
    CheckpointConfig,
    Fraction,
    LearnerConfig,
    LogConfig,
    OptimizerConfig,
    PromptConfig,
)
from configs.strict import Strict

ChatFormat = Literal["messages", "conversations", "prompt_completion", "verl"]


class ChatDataConfig(Strict):
    """Where chats come from, and what its columns are called."""

    source: str
    """Hub name or `name:subset`, or a path to a parquet, JSONL, CSV or Arrow file, a saved data
    set, or an image folder with a metadata file."""
    split: str = "train"
    """Split to read."""
    format: Literal["auto"] | ChatFormat = "auto"
    """messages: chat messages as OpenAI has them; conversations: InternVL's and LLaVA's;
    prompt_completion: TRL's; verl: its parquet files; auto: told by the columns."""
    messages_column: str = "messages"
    """Column with a list of messages (role, content), for `messages`."""
    conversations_column: str = "conversations"
    """Column with a list of turns (from, value), for `conversations`."""
    prompt_column: str = "prompt"
    """Column with what is asked, a text or messages, for `prompt_completion` and `verl`."""
    completion_column: str = "completion"
    """Column with what is to be said, a text or messages, for `prompt_completion`."""
    image_column: str | None = None
    """Column with an image or a list of images; null: `images` or `image`, whichever is there."""
    id_column: str | None = None
    """Column with a unique name for each row; null: the row's number."""
    image_folder: Path | None = None
    """Folder that image paths start at and may not leave; null: the data file's own."""
    turns: Literal["all", "last"] = "all"
    """Assistant turns that are learned; the others are context."""
    max_image_pixels: PositiveInt = 50_000_000
    """Images with more pixels than this are refused as bombs."""
    max_rejected_share: Fraction = 0.05
    """The run stops when a larger share of the rows than this cannot be used."""
    limit: PositiveInt | None = None
    """Use only the first so many rows; null: all."""


class ChatLimits(Strict):
    """What a chat may hold."""

    max_tokens: PositiveInt = 16_384
    """Chats longer than this, image tokens included, are rejected, never truncated (paper, section
    2.1: 16,384)."""
    max_images: PositiveInt = 8
    """Most images of a chat."""


class SFTOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule."""

    lr: PositiveFloat = 4e-5
    """Peak learning rate (paper, section 2.1: 4e-5 after the first pass)."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """What the learning rate does after the warm-up."""


class SFTLearnerConfig(LearnerConfig):
    """The DeepSpeed ranks that train: the workers of a Ray Train job."""

    cpus_per_rank: PositiveFloat = 1.0
    """CPU cores that Ray reserves for each rank."""
    restarts: NonNegativeInt = 3
    """Times that a dead rank makes all of them start again, from the newest checkpoint."""
    packing: bool = True
    """Chats share rows, and rows a pass of max_tokens_per_microbatch; false: each goes alone."""
    # Sections are frozen, so a narrower one is safe.
    optimizer: SFTOptimizerConfig = SFTOptimizerConfig()  # pyright: ignore[reportIncompatibleVariableOverride]


class FeaturesConfig(Strict):
    """What a frozen vision tower makes of each image, computed once and kept."""

    keep: Literal["off", "memory", "disk"] = "off"
    """off: the tower runs at each step; memory: of each rank; disk: shared by ranks and runs."""
    max_bytes: PositiveInt = 8 * 2**30
    """Most bytes kept, by each rank in memory, by all of them on disk; what does not fit is
    computed again."""
    folder: Path | None = None
    """Where features lie on disk, reached by every node; null: the user's cache folder."""


class HeldOutConfig(Strict):
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


class SFTLogConfig(LogConfig):
    """Where a run leaves its traces."""

    samples_per_step: PositiveInt | None = 1
    """Chats of the first rank written to samples.jsonl each step with their loss; null: all."""


class SupervisedRecipe(Strict):
    """What all supervised jobs have in common."""

    name: str
    """The run's name, and its folder's."""
    seed: NonNegativeInt = 0
    """Orders the chats."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs."""
    batch: PositiveInt = 512
    """Chats of a step (paper, section 2.1: 512)."""
    policy: PolicyConfig
    prompt: ChatLimits = ChatLimits()
    learner: SFTLearnerConfig = SFTLearnerConfig()
    features: FeaturesConfig = FeaturesConfig()
    evaluation: HeldOutConfig = HeldOutConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: SFTLogConfig = SFTLogConfig()

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
        if self.features.keep != "off" and "vision" in self.policy.train:
            raise ValueError(
                f"features.keep={self.features.keep} with policy.train={list(self.policy.train)}: "
                "a tower that learns gives other features at each step; set features.keep to off, "
                "or leave vision out of policy.train"
            )
        return self

    @property
    def run_folder(self) -> Path:
        """Where this run's log, samples, checkpoints and policy lie."""
        return self.log.folder / self.name

    @property
    def encoding(self) -> PromptConfig:
        """The prompt's section as those want it who encode."""
        limits = self.prompt
        return PromptConfig(max_tokens=limits.max_tokens, max_images=limits.max_images)

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


class AlignPolicyConfig(PolicyConfig):
    """The model whose projector learns."""

    train: tuple[Part, ...] = ("projector",)
    """Parts that learn; the others stay frozen (paper, section 2.1: the projector)."""


class PassConfig(Strict):
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
