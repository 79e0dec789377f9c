"""The section of a recipe about the quality of chains of thought, 0 to 5 (paper, section 2.2)."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from configs.schema.base import StrictModel
from configs.schema.endpoint import AskedModelConfig
from configs.schema.policy import ModelConfig

Cuts = tuple[float, float, float, float, float]


class QualityJudgeConfig(AskedModelConfig):
    """A served model that reads question, images, right answer and chain; grades by a rubric."""

    images: bool = True
    """Show it the images; false: it reads text only."""
    max_chars: PositiveInt = 120_000
    """Longest chain that is sent; longer ones are left without a grade."""


class ValueHeadConfig(ModelConfig):
    """A reward model with one number for an answer: a vision-language model with a value head, as
    Skywork-VL-Reward, or a sequence classifier with one label."""

    max_tokens: PositiveInt = 20_480
    """Longest question with its chain, image tokens counted; longer ones are left without a
    grade."""
    batch: PositiveInt = 4
    """Chains that go through the model together."""
    workers: PositiveInt = 1
    """Actors that score, with one GPU each where the cluster has GPUs."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """Times that dead ones are started again before the run ends, all of them together."""
    cuts: Literal["quantiles", "thresholds"] = "quantiles"
    """What cut_points are: quantiles of the scores of all chains graded together, or scores. Grades
    by quantiles are comparable within one set of chains only."""
    cut_points: Cuts = (0.1, 0.25, 0.45, 0.65, 0.85)
    """A chain's grade is how many of the five its score reaches. The paper gives none."""

    @model_validator(mode="after")
    def _cut_points_rise(self) -> Self:
        if any(low >= high for low, high in pairwise(self.cut_points)):
            raise ValueError(f"cut_points={list(self.cut_points)} do not rise; sort them")
        outside = [cut for cut in self.cut_points if not 0.0 < cut < 1.0]
        if self.cuts == "quantiles" and outside:
            raise ValueError(
                f"cut_points={list(self.cut_points)}: {outside} are no quantiles between 0 and 1; "
                "correct them, or set cuts=thresholds"
            )
        return self


class QualityConfig(StrictModel):
    """Who grades chains of thought from 0 to 5. The paper says a reward model, and names none."""

    kind: Literal["rules", "judge", "value_head"] = "rules"
    """rules: points for what can be checked (docs/distillation.md); judge: a served model grades by
    a rubric; value_head: a reward model's score, cut into grades."""
    judge: QualityJudgeConfig | None = None
    """With kind=judge."""
    value_head: ValueHeadConfig | None = None
    """With kind=value_head."""
    max_ungraded_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Grading ends with an error when a larger share of the chains than this gets no grade."""

    @model_validator(mode="after")
    def _has_the_section_of_its_kind(self) -> Self:
        for name in ("judge", "value_head"):
            there = getattr(self, name) is not None
            if there and self.kind != name:
                raise ValueError(
                    f"{name} is set, and kind={self.kind}; set kind={name}, or drop it"
                )
            if not there and self.kind == name:
                needs = "judge.model" if name == "judge" else "value_head.path"
                raise ValueError(f"kind={name} needs a section {name}: set {needs}")
        return self
