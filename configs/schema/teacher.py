"""Recipe section: the frozen teacher of on-policy distillation."""

from string import Formatter
from typing import Self

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from configs.schema.base import StrictModel
from configs.schema.policy import ModelConfig


class FrozenTeacherConfig(ModelConfig):
    """The model whose probabilities the policy shall learn on its own answers; it has the policy's
    tokenizer."""

    path: str = ""
    """Folder or hub name of a transformers checkpoint; empty: the policy as it was at the start,
    which then needs a `context` that tells it more."""
    context: str | None = None
    """What the teacher reads in place of the question: text with {question}, {answer} and the
    columns of data.reward_columns in braces; null: the question alone."""
    restarts: NonNegativeInt = 3
    """Times that a dead one is started again before the run ends; what a lost node took along is
    not counted."""

    @model_validator(mode="after")
    def _knows_more_than_the_policy(self) -> Self:
        if not self.path and self.context is None:
            raise ValueError(
                "teacher.path is empty and teacher.context is null, so the teacher would know no "
                "more than the policy: name a checkpoint in teacher.path, or tell it more, as in "
                "teacher.context='{question} (The answer is {answer}.)'"
            )
        return self

    @property
    def context_fields(self) -> frozenset[str]:
        """Names in braces in the context. ValueError where braces do not pair."""
        return frozenset(
            name for _, name, _, _ in Formatter().parse(self.context or "") if name is not None
        )


class DistillationLossConfig(StrictModel):
    """The divergence from the teacher, KL(policy || teacher), at each token of an answer."""

    coef: PositiveFloat = 1.0
    """Its weight; with loss.kind=mixed beside the policy-gradient loss, whose weight is 1."""
    top_k: NonNegativeInt | None = 64
    """The teacher's likeliest tokens that are compared at each place, all others as one; null: the
    whole vocabulary, a row of which travels for each token; 0: the sampled token alone, whose
    log-ratio is then an advantage (Thinking Machines, "On-Policy Distillation", 2025)."""
