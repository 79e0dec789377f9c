"""The schema of a GRPO recipe. One field, one docstring; derived values are properties.

Every value is named once. Numbers from the paper are cited where they are defaults.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from configs.policy import PolicyConfig
from configs.rewards import RewardConfig
from configs.rollout import RolloutConfig, SyncConfig
from configs.strict import Strict
from configs.tiny import TinyPathConfig

_SHARED_WITH_A_LEARNER = 0.6
"""Most of a GPU's memory that an engine may take beside a learner rank."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class DataConfig(Strict):
    """Where problems come from, and what its columns are called."""

    source: str
    """Hub name or `name:subset`, or a path to a parquet, JSONL, CSV or Arrow file, a saved data
    set, or an image folder with a metadata file;
    `digits` and `digits-text` name the built-in handwriting sums, with and without pictures."""
    split: str = "train"
    """Split to read."""
    question_column: str = "question"
    """Column with the question's text."""
    answer_column: str = "answer"
    """Column with the right answer: a text, a number, or a list of accepted forms."""
    image_column: str | None = "image"
    """Column with an image or a list of images (PIL, bytes, path); null: text only."""
    id_column: str | None = None
    """Column with a unique name for each row; null: the row's number."""
    reward_columns: tuple[str, ...] = ()
    """Further columns handed to the rewards."""
    max_image_pixels: PositiveInt = 50_000_000
    """Images with more pixels than this are refused as bombs."""
    max_rejected_share: Fraction = 0.05
    """The run stops when a larger share of the rows than this cannot be used."""
    limit: PositiveInt | None = None
    """Use only the first so many rows; null: all."""


class PromptConfig(Strict):
    """How a problem becomes a prompt."""

    system: str | None = None
    """System message; null: none."""
    suffix: str = ""
    """Text put after each question, on a line of its own."""
    max_tokens: PositiveInt = 4096
    """Prompts longer than this, image tokens included, are rejected, never truncated."""
    max_images: PositiveInt = 8
    """Most images in one prompt; an engine makes room for them."""


class KLConfig(Strict):
    """Divergence from the frozen start policy."""

    coef: NonNegativeFloat = 0.0
    """Weight of the KL term; 0: no reference policy is started (R1V3: none)."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """k1 = log r, k2 = (log r)^2 / 2, k3 = 1/r - 1 + log r, with r = policy / reference."""


class LossConfig(Strict):
    """The clipped policy-gradient loss."""

    clip_low: PositiveFloat = 0.2
    """The probability ratio is clipped from below at 1 - clip_low (R1V3: 0.2)."""
    clip_high: PositiveFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high (R1V3: 0.2)."""
    advantage: Literal["group_norm", "group_mean"] = "group_norm"
    """group_norm: (r - mean) / std (GRPO); group_mean: r - mean (Dr. GRPO)."""
    kl: KLConfig = KLConfig()


class OptimizerConfig(Strict):
    """AdamW and its schedule."""

    lr: PositiveFloat = 1e-6
    """Peak learning rate (paper, section 2.2: 1e-6)."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up."""
    warmup_share: Fraction = 0.03
    """Share of the steps over which the learning rate rises (paper, section 2.1: 0.03)."""
    weight_decay: NonNegativeFloat = 0.05
    """AdamW's weight decay (paper, section 2.1: 0.05)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """AdamW's betas."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this global norm."""


class LearnerConfig(Strict):
    """The DeepSpeed ranks that train."""

    ranks: PositiveInt = 1
    """Learner actors, one device each."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    """ZeRO stage: 1 shards optimizer state, 2 gradients too, 3 weights too."""
    offload: bool = False
    """Keep optimizer state in host memory (ZeRO 2 and 3)."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    max_tokens_per_microbatch: PositiveInt = 16_384
    """Padded tokens of one forward pass on one rank."""
    logprob_chunk: PositiveInt = 1024
    """Positions whose logits over the vocabulary exist at a time."""
    cpu_threads: PositiveInt | None = None
    """Threads of a rank on a CPU machine; null: its cores divided among all that compute at
    the same time. In GRPO the smallest models are fastest with 1."""
    max_skipped_in_a_row: PositiveInt = 3
    """The run ends after this many updates in a row with a loss or gradient that is not finite."""
    optimizer: OptimizerConfig = OptimizerConfig()

    @model_validator(mode="after")
    def _offload_needs_shards(self) -> Self:
        if self.offload and self.zero_stage < 2:
            raise ValueError(
                f"offload=true with zero_stage={self.zero_stage}: DeepSpeed offloads sharded "
                "optimizer state only; set zero_stage to 2 or 3, or offload to false"
            )
        return self


class PreflightConfig(Strict):
    """Checks before step 1."""

    problems: PositiveInt = 4
    """Problems whose prompts and logprobs are compared between engine and learner."""
    max_logprob_gap: PositiveFloat = 0.05
    """Largest mean absolute gap of sampler and learner logprobs, nats."""


class EvaluationConfig(Strict):
    """Held-out problems, before, during and after."""

    data: DataConfig | None = None
    """Held-out problems; null: no evaluation."""
    every: PositiveInt = 20
    """Steps between evaluations."""
    samples: PositiveInt = 4
    """k of avg@k: answers sampled to each problem at the rollout temperature."""
    problems: PositiveInt | None = None
    """Use only the first so many; null: all."""


class CheckpointConfig(Strict):
    """What is kept on disk."""

    every: PositiveInt = 20
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept."""


class LogConfig(Strict):
    """Where a run leaves its traces."""

    folder: Path = Path("runs")
    """Runs lie in folders of their names below this one."""
    wandb: bool = True
    """Log to Weights & Biases; offline where no key is set."""
    samples_per_step: PositiveInt | None = None
    """Answers written to samples.jsonl each step; null: all."""


class GRPORecipe(Strict):
    """One run of GRPO."""

    name: str
    """The run's name, and its folder's."""
    seed: NonNegativeInt = 0
    """Orders problems and draws samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs."""
    steps: PositiveInt = 200
    """Updates of the policy."""
    problems_per_step: PositiveInt = 32
    """Problems asked for each update."""
    max_staleness: NonNegativeInt = 0
    """Versions that an answer's policy may lag behind the learner; 0: exactly on-policy."""
    data: DataConfig
    """Problems to learn from."""
    policy: PolicyConfig = PolicyConfig()
    prompt: PromptConfig = PromptConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    loss: LossConfig = LossConfig()
    learner: LearnerConfig = LearnerConfig()
    sync: SyncConfig = SyncConfig()
    preflight: PreflightConfig = PreflightConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    start: TinyPathConfig | None = None
    """How to make a start policy when `policy.path` is empty; null: it must be set."""
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _policy_has_a_source(self) -> Self:
        if self.policy.path:
            return self
        if self.start is None:
            raise ValueError(
                "policy.path is empty and there is no start section: name a checkpoint "
                "folder or hub name in policy.path"
            )
        if self.data.source not in ("digits", "digits-text"):
            raise ValueError(
                f"policy.path is empty, and a start policy is made for the built-in data only, not "
                f"data.source={self.data.source!r}: name a checkpoint in policy.path"
            )
        return self

    @model_validator(mode="after")
    def _longest_answer_fits_the_learner(self) -> Self:
        longest = self.prompt.max_tokens + self.rollout.max_new_tokens - 1
        if longest > self.learner.max_tokens_per_microbatch:
            raise ValueError(
                f"prompt.max_tokens={self.prompt.max_tokens} and rollout.max_new_tokens="
                f"{self.rollout.max_new_tokens} allow rows of {longest} tokens, more than "
                f"learner.max_tokens_per_microbatch={self.learner.max_tokens_per_microbatch}; "
                "raise it, or lower one of the two"
            )
        return self

    @model_validator(mode="after")
    def _ranks_share_gpus_with_engines_in_pairs(self) -> Self:
        rollout, ranks = self.rollout, self.learner.ranks
        if not self.sync.shared_gpu:
            return self
        if rollout.tensor_parallel > 1:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.tensor_parallel={rollout.tensor_parallel}: an "
                "engine that shares its GPU with a learner rank has one GPU; set tensor_parallel=1"
            )
        if rollout.workers != ranks:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.workers={rollout.workers} and learner.ranks="
                f"{ranks}: they share GPUs in pairs; make them equal"
            )
        if rollout.memory_share > _SHARED_WITH_A_LEARNER:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.memory_share={rollout.memory_share:g} leaves "
                "the learner too little of its GPU; set memory_share to "
                f"{_SHARED_WITH_A_LEARNER:g} or less"
            )
        return self

    @property
    def run_folder(self) -> Path:
        """Where this run's log, samples and checkpoints lie."""
        return self.log.folder / self.name
