"""The schema of an evaluation: a model, benchmarks, and how they are asked."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from configs.jobs.generate import GenerationRecipe
from configs.schema.base import StrictModel
from configs.schema.data import DataConfig
from configs.schema.endpoint import EndpointConfig
from configs.schema.policy import ModelConfig
from configs.schema.reward import RewardConfig
from configs.schema.rollout import EngineConfig, SamplingConfig
from configs.schema.run import Fraction

PUBLISHED = (
    "math_500",
    "aime_2024",
    "aime_2025",
    "gpqa_diamond",
    "mmmu_val",
    "mathvista_testmini",
)
"""Benchmarks whose columns, prompts and rules are known."""


class ServerConfig(EndpointConfig):
    """A server that answers in place of engines of our own."""

    timeout_s: PositiveFloat = 3600.0
    """Seconds for one answer."""
    parallel: PositiveInt = 32
    """Requests under way at a time."""


class AnsweringModel(ModelConfig):
    """The model that answers."""

    path: Annotated[str, Field(min_length=1)]
    """Folder or hub name of a transformers checkpoint; with `server`, the model's name there."""
    server: ServerConfig | None = None
    """Ask an OpenAI-compatible server; null: start engines on the checkpoint."""


class AnsweringConfig(EngineConfig, SamplingConfig):
    """How each problem is asked, and the engines that answer."""

    samples: PositiveInt = 5
    """k: independent runs, each with one answer to each problem (paper, section 4.1: 5)."""
    temperature: NonNegativeFloat = 0.6
    """Sampling temperature; 0: the likeliest token each time. The paper does not state it; 0.6 and
    top_p 0.95 are of its published inference script."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Smallest share of probability that is sampled from; 1: all."""
    max_new_tokens: PositiveInt = 64_000
    """Longest answer (paper, section 4.1: 64K tokens)."""


class EvaluationRewardConfig(RewardConfig):
    """Rule-based rewards and the pool that runs them."""

    weights: dict[str, NonNegativeFloat] = Field(default={"by_row": 1.0}, min_length=1)
    """Weight of each reward by its name. Figures are those of `accuracy`; others are run too."""
    accuracy: str = "by_row"
    """The reward that is the score; by_row: the one that each benchmark names."""


class BenchmarkConfig(StrictModel):
    """One benchmark: a published one by its name, or rows of your own in `data`."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """math_500, aime_2024, aime_2025, gpqa_diamond, mmmu_val or mathvista_testmini; or, with
    `data`, any name."""
    source: str | None = None
    """Where a published benchmark's rows lie, in their own columns: hub name or path, where
    `{subject}` stands for each MMMU subject; null: its place on the hub."""
    split: str | None = None
    """Split of `source`; null: the published one."""
    data: DataConfig | None = None
    """Rows of your own; null: `name` is a published benchmark's."""
    subject_column: str | None = None
    """Column of `data` with a row's subject or a list of them, for scores by subject."""
    rule: Literal["math", "choice", "numeric", "exact", "iou"] | None = None
    """Reward that scores `data` under reward.accuracy=by_row; null: that of its column `reward`
    where it is among data.reward_columns, else math."""
    instruction: str | None = None
    """Text behind each question that is not multiple-choice; null: the benchmark's own."""
    choice_instruction: str | None = None
    """Text behind each multiple-choice question; null: the benchmark's own."""
    limit: PositiveInt | None = None
    """Ask only the first so many problems of each file; null: all."""
    max_rejected_share: Fraction = 0.0
    """The run stops when a larger share of a published benchmark's rows cannot be used."""

    @model_validator(mode="after")
    def _is_known_or_has_rows(self) -> Self:
        if self.data is None:
            if self.name not in PUBLISHED:
                raise ValueError(
                    f"name={self.name!r} is no published benchmark that is known "
                    f"({', '.join(PUBLISHED)}); name one of them, or give rows in data"
                )
            given = {"subject_column": self.subject_column, "rule": self.rule}
            why = "belongs to rows of your own in data, and there are none"
        else:
            given = {
                "source": self.source,
                "split": self.split,
                "choice_instruction": self.choice_instruction,
                "limit": self.limit,
                "max_rejected_share": self.max_rejected_share or None,
            }
            why = "is for published benchmarks; set it in data, or leave it out"
        for field, value in given.items():
            if value is not None:
                raise ValueError(f"{field}={value!r} {why}")
        return self


class EvaluateRecipe(GenerationRecipe):
    """One evaluation of one model."""

    policy: AnsweringModel  # pyright: ignore[reportIncompatibleVariableOverride]
    """The model that answers."""
    rollout: AnsweringConfig = AnsweringConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    reward: EvaluationRewardConfig = EvaluationRewardConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)]
    options_seed: NonNegativeInt = 0
    """Shuffles the options of GPQA, whose rows name the right one first."""

    @property
    def at_a_time(self) -> int:
        """Answers under way at a time: all that a server is asked, or two rounds of the engines."""
        if self.policy.server is not None:
            return self.policy.server.parallel
        most = self.rollout.max_workers or self.rollout.workers
        return 2 * most * self.rollout.max_num_seqs

    @model_validator(mode="after")
    def _a_server_sizes_images_itself(self) -> Self:
        if self.policy.server is not None and self.prompt.max_pixels is not None:
            raise ValueError(
                f"prompt.max_pixels={self.prompt.max_pixels} is for engines of our own, and a "
                "server answers; set it there, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _benchmarks_have_names_of_their_own(self) -> Self:
        names = [benchmark.name for benchmark in self.benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two benchmarks are called {name!r}; rename one")
        return self

    @model_validator(mode="after")
    def _likeliest_answers_are_asked_once(self) -> Self:
        if self.rollout.temperature == 0 and self.rollout.samples > 1:
            raise ValueError(
                f"rollout.temperature=0 with rollout.samples={self.rollout.samples}: every run "
                "would be the same; set samples=1, or a temperature"
            )
        return self

    @model_validator(mode="after")
    def _every_answer_is_kept(self) -> Self:
        if self.log.samples_per_step is not None:
            raise ValueError("log.samples_per_step is set, but all answers are kept; leave it null")
        return self

    @model_validator(mode="after")
    def _a_server_has_engines_of_its_own(self) -> Self:
        if self.policy.server is None:
            return self
        changed = _changed("policy", self.policy, ("dtype", "trust_remote_code"))
        changed += _changed("rollout", self.rollout, _ENGINE_FIELDS)
        if changed:
            raise ValueError(
                f"{', '.join(changed)}: about engines of our own, and policy.server answers; "
                "leave them out, or set policy.server=null"
            )
        return self


_ENGINE_FIELDS = (
    "workers",
    "max_workers",
    "cpus_per_worker",
    "tensor_parallel_size",
    "dtype",
    "max_num_seqs",
    "gpu_memory_utilization",
    "cpu_kv_cache_gib",
    "cpu_threads",
    "enforce_eager",
    "engine_args",
    "health_timeout_s",
)


def _changed(section: str, config: StrictModel, fields: tuple[str, ...]) -> list[str]:
    """Each of `fields` that is not at its default, with its value."""
    defaults = {name: type(config).model_fields[name].default for name in fields}
    return [
        f"{section}.{name}={getattr(config, name)}"
        for name, default in defaults.items()
        if getattr(config, name) != default
    ]


class CompareRecipe(StrictModel):
    """Two evaluations, side by side."""

    first: str
    """Run folder of an evaluation."""
    second: str
    """Run folder of another; differences are second minus first."""
    seed: NonNegativeInt = 0
    """Draws the bootstrap's resamples."""
    out: str | None = None
    """Markdown file to write the comparison to; null: it is only shown."""
