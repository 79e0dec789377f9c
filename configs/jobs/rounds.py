"""The schema of rounds of distillation and fine-tuning (paper, section 2.2)."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from configs.jobs.stage import DistillStage, SFTStage
from configs.schema.base import StrictModel
from configs.schema.data import DataConfig
from configs.schema.quality import QualityConfig
from configs.schema.rollout import SamplingConfig
from configs.schema.run import RunRecipe


class RoundConfig(StrictModel):
    """One round: the chains that are learned, and how fast."""

    threshold: Annotated[int, Field(ge=0, le=5)]
    """tau: chains of at least this quality are learned, and those of problems that the policy of
    the round before got wrong."""
    lr: PositiveFloat
    """Peak learning rate."""
    epochs: PositiveFloat = 1.0
    """Times that each chain is seen (paper, section 2.2: 1)."""


PAPER_ROUNDS = (
    RoundConfig(threshold=2, lr=1e-4),
    RoundConfig(threshold=3, lr=2e-5),
    RoundConfig(threshold=4, lr=2e-5),
    RoundConfig(threshold=5, lr=2e-5),
)


class HeldOutSetsConfig(SamplingConfig):
    """Problems that every policy on the way is asked."""

    sets: Annotated[dict[str, DataConfig], Field(min_length=1)]
    """Problems by a name; the first set chooses the best policy."""
    samples: PositiveInt = 1
    """Answers to each problem."""
    temperature: NonNegativeFloat = 0.6
    """Sampling temperature; 0: the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Smallest share of probability that is sampled from."""


class RoundsSections(RunRecipe):
    """What a run of rounds has beside the policy that it starts from."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs."""
    distill: DistillStage
    """How chains are written in each round."""
    quality: QualityConfig = QualityConfig()
    """The reward model that gives each chain 0 to 5."""
    sft: SFTStage
    """How chains are learned in each round."""
    rounds: Annotated[tuple[RoundConfig, ...], Field(min_length=1)] = PAPER_ROUNDS
    """The rounds (paper, section 2.2: tau 2, 3, 4, 5; 1e-4, then 2e-5)."""
    held_out: HeldOutSetsConfig
    """Asked of every policy, on the engines that write the chains."""

    @model_validator(mode="after")
    def _rounds_say_how_fast_and_how_long(self) -> Self:
        if self.sft.steps is not None or self.sft.epochs != 1.0:
            raise ValueError("sft.steps and sft.epochs are each round's to say: rounds.epochs")
        optimizer = self.sft.learner.optimizer
        if optimizer.lr != type(optimizer).model_fields["lr"].default:
            raise ValueError("sft.learner.optimizer.lr is each round's to say: rounds.lr")
        return self


class RoundsRecipe(RoundsSections):
    """Rounds of distillation and fine-tuning, each on chains of its own policy."""

    start: Annotated[str, Field(min_length=1)]
    """Folder or hub name of the policy to start from."""
