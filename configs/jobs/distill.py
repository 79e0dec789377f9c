"""The schema of adaptive-length chain-of-thought distillation (paper, section 2.3)."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from configs.jobs.evaluate import AnsweringModel, ServerConfig
from configs.jobs.generate import GenerationRecipe
from configs.schema.base import StrictModel
from configs.schema.data import DataConfig
from configs.schema.endpoint import AskedModelConfig
from configs.schema.run import Fraction


class ScoringJudgeConfig(AskedModelConfig):
    """A served model that judges questions (paper, section 2.3: GPT-4o)."""

    max_unjudged_share: Fraction = 0.1
    """The run stops when a larger share of the questions than this gets no judgement; those that
    get none count as average."""


class QueryScoringConfig(StrictModel):
    """How much each question asks of eyes and thought (QDAM and VTIA)."""

    by: Literal["self", "judge"] = "self"
    """self: measured by answers of the policy, with and without images; judge: a served model is
    asked, as in the paper. Clarity comes from the pixels either way."""
    judge: ScoringJudgeConfig | None = None
    """With by=judge."""
    samples: PositiveInt = 4
    """Answers sampled to each problem with its images, and as many without them."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Their sampling temperature."""
    full_resolution: PositiveInt = 448
    """Pixels of an image's shorter side from which on its resolution counts in full."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.by == "self" and self.judge is not None:
            raise ValueError("judge is set, and by=self; set by=judge, or drop it")
        if self.by == "self":
            return self
        if self.judge is None:
            raise ValueError("by=judge needs a section judge: set judge.endpoint and judge.model")
        for name in ("samples", "temperature"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is about answers of the policy, and by=judge asks for none"
                )
        return self


class LengthControlConfig(StrictModel):
    """The repetition penalty of each question's chain (DRLC, equation 1):
    P = min(max_penalty, exp(alpha (1 - (Sv + beta St + gamma SI) / (1 + beta + gamma))))."""

    alpha: NonNegativeFloat = 0.1
    """How much shorter chains of easy questions become; 0: P = 1. The paper gives no value."""
    beta: NonNegativeFloat = 1.0
    """Weight of the text score beside the vision score's 1."""
    gamma: NonNegativeFloat = 1.0
    """Weight of the integration score."""
    max_penalty: Annotated[float, Field(ge=1.0, le=2.0)] = 2.0
    """Largest P (paper: 2)."""
    fixed_penalty: Annotated[float, Field(ge=1.0, le=2.0)] | None = None
    """One P for all questions, to compare with; null: each by its scores."""


class TeacherServerConfig(ServerConfig):
    """A server that rewrites wrong chains."""

    cache: str | None = None
    """File that keeps the replies from run to run, so that nothing is asked twice; null:
    judge.sqlite in $R1V_CACHE or ~/.cache/r1v-ray."""


class TeacherConfig(AnsweringModel):
    """A model that writes the chain where the policy's own is wrong. Engines of our own answer
    anew; a server is shown the wrong chain and rewrites it (paper, section 2.3: GPT-4o)."""

    server: TeacherServerConfig | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Ask an OpenAI-compatible server with structured output; null: start engines on `path`."""
    question: str = "{question}\nThe right answer is {answer}."
    """What it is asked; {question}, {answer} and any of data.reward_columns are filled in."""
    images: bool = True
    """Show it the images; false: it reads text only."""
    samples: PositiveInt = 2
    """Chains sampled; the shortest right one is taken."""

    @model_validator(mode="after")
    def _a_server_has_engines_of_its_own(self) -> Self:
        for name in ("dtype", "trust_remote_code") if self.server is not None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is about engines of our own, and a server answers; drop it"
                )
        return self

    @property
    def provenance(self) -> Literal["teacher", "judge"]:
        """What its chains are marked with."""
        return "teacher" if self.server is None else "judge"


class DistillRecipe(GenerationRecipe):
    """Chains of thought by the policy itself, each as long as its question deserves."""

    data: DataConfig
    """Problems to write chains for."""
    samples: PositiveInt = 1
    """Chains sampled for each problem; the shortest right one is taken."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus of the sampling."""
    scoring: QueryScoringConfig = QueryScoringConfig()
    length: LengthControlConfig = LengthControlConfig()
    teacher: TeacherConfig | None = None
    """Null: problems without a right chain of the policy's own are dropped."""
    problems_at_a_time: PositiveInt = 256
    """Problems under way at a time."""
    rows_per_shard: PositiveInt = 4096
    """Problems of one parquet file."""
    max_dropped_share: Fraction = 1.0
    """The run stops at its end when a larger share of the problems than this got no chain."""

    @model_validator(mode="after")
    def _teacher_can_be_asked(self) -> Self:
        if self.teacher is None:
            return self
        known = ("question", "answer", *self.data.reward_columns)
        try:
            self.teacher.question.format(**dict.fromkeys(known, ""))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"teacher.question={self.teacher.question!r} cannot be filled in ({error!r}); it "
                f"may name {', '.join('{' + name + '}' for name in known)}"
            ) from error
        return self
