"""Recipes of jobs as stages of a longer run, which names their folders and hands them policies."""

from typing import Any, Self

from pydantic import model_validator

from configs.jobs.distill import DistillRecipe
from configs.jobs.evaluate import AnsweringModel, EvaluateRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import AlignPolicyConfig, AlignRecipe, SFTRecipe
from configs.schema.base import StrictModel
from configs.schema.data import ChatDataConfig, TrainingDataConfig
from configs.schema.policy import ModelConfig, PolicyConfig

FROM_PARENT = "set by the whole run"


class HandedModel(ModelConfig):
    """A model that the stage before hands on."""

    path: str = FROM_PARENT
    """Set by the whole run."""


class HandedAnsweringModel(AnsweringModel):
    """The model that answers, which the stage before hands on."""

    path: str = FROM_PARENT
    """Set by the whole run."""


class HandedPolicy(PolicyConfig):
    """A policy that the stage before hands on, and what of it learns."""

    path: str = FROM_PARENT
    """Set by the whole run."""


class HandedAlignPolicy(AlignPolicyConfig):
    """A model that the stage before hands on, and what of it learns."""

    path: str = FROM_PARENT
    """Set by the whole run."""


class StageOfARun(StrictModel):
    """Refuses what the whole run decides."""

    @model_validator(mode="after")
    def _leaves_to_the_run_what_is_the_runs(self) -> Self:
        fields, values = type(self).model_fields, dict[str, Any](self)
        for name in ("name", "seed", "log", "device"):
            if values[name] != fields[name].get_default():
                raise ValueError(
                    f"{name} is the whole run's to say; set it at the top of the recipe, not here"
                )
        if values["policy"].path != FROM_PARENT:
            raise ValueError("policy.path is handed on by the stage before; leave it out")
        data = fields.get("data")
        if data is not None and not data.is_required() and values["data"] != data.get_default():
            raise ValueError("data is handed on by the stage before; leave it out")
        return self


# Sections are frozen, so narrower ones are safe.
class DistillStage(DistillRecipe, StageOfARun):
    """Distillation of chains by the policy of the stage before."""

    name: str = "distill"
    policy: HandedModel = HandedModel()  # pyright: ignore[reportIncompatibleVariableOverride]


class SFTStage(SFTRecipe, StageOfARun):
    """Fine-tuning of the policy of the stage before on chains that were chosen."""

    name: str = "sft"
    policy: HandedPolicy = HandedPolicy()  # pyright: ignore[reportIncompatibleVariableOverride]
    data: ChatDataConfig = ChatDataConfig(source=FROM_PARENT)


class AlignStage(AlignRecipe, StageOfARun):
    """Alignment of the projector with the substitute."""

    name: str = "align"
    policy: HandedAlignPolicy = HandedAlignPolicy()  # pyright: ignore[reportIncompatibleVariableOverride]


class GRPOStage(GRPORecipe, StageOfARun):
    """GRPO on the problems whose chains are best."""

    name: str = "grpo"
    policy: HandedPolicy = HandedPolicy()  # pyright: ignore[reportIncompatibleVariableOverride]
    data: TrainingDataConfig = TrainingDataConfig(source=FROM_PARENT)


class EvaluateStage(EvaluateRecipe, StageOfARun):
    """Benchmarks asked of the last policy."""

    name: str = "evaluate"
    policy: HandedAnsweringModel = HandedAnsweringModel()  # pyright: ignore[reportIncompatibleVariableOverride]
