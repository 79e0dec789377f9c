"""Recipe sections: where problems and chats come from, and what a prompt may hold."""

import fractions
from collections.abc import Mapping
from math import lcm
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from configs.schema.base import StrictModel
from configs.schema.rollout import SamplingConfig
from configs.schema.run import Fraction


class SourceConfig(StrictModel):
    """Rows, and which of them may be used."""

    source: str
    """Hub name or `name:subset`, or a path to a parquet, JSONL, CSV or Arrow file, a saved data
    set, or an image folder with a metadata file, or the name of a built-in set."""
    split: str = "train"
    """Split to read."""
    id_column: str | None = None
    """Column with a unique name for each row; null: the row's number, from 0."""
    max_image_pixels: PositiveInt = 50_000_000
    """Images with more pixels than this are refused as bombs."""
    max_rejected_share: Fraction = 0.05
    """The run stops when a larger share of the rows than this cannot be used."""
    limit: PositiveInt | None = None
    """Use only the first so many rows; null: all."""
    ids: Path | None = None
    """File with the ids of the rows to use, one a line; null: all."""


class DataConfig(SourceConfig):
    """Where problems come from, and what its columns are called."""

    question_column: str = "question"
    """Column with the question: a text, or messages (role, content) that end with it. A column
    within another has a dotted name, here and below: `reward_model.ground_truth`."""
    answer_column: str = "answer"
    """Column with the right answer: a text, a number, or a list of accepted forms."""
    system_column: str | None = None
    """Column with the row's own system message, in place of prompt.system; null: none."""
    image_column: str | None = "image"
    """Column with an image or a list of images (PIL, bytes, path, base64, data or file URL); null:
    text only."""
    reward_columns: tuple[str, ...] = ()
    """Further columns handed to the rewards."""


class WeightedDataConfig(DataConfig):
    """One source of several."""

    weight: PositiveFloat = 1.0
    """Its share of the problems, beside the other sources' weights."""


class CurriculumConfig(StrictModel):
    """An order of the problems other than a shuffle; equal ones come as without it."""

    column: str | None = None
    """Column with a number by which each epoch is sorted; null: by the share of right answers to
    each problem when it was asked last, so that the first epoch has no order."""
    first: Literal["low", "high"]
    """Whether low or high values come first; easy ones: high shares of right answers."""


_SourceName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class TrainingDataConfig(DataConfig):
    """Where the problems to learn from come from, and in what order."""

    source: str = ""
    """Hub name or `name:subset`, or a path to a parquet, JSONL, CSV or Arrow file, a saved data
    set, or an image folder with a metadata file, or the name of a built-in set; empty with mix."""
    mix: dict[_SourceName, WeightedDataConfig] = Field(default={})
    """Several sources in place of one, by names for the metrics, each with its own columns and a
    weight: {geometry: {source: a.jsonl, weight: 3}, charts: {source: b.parquet}}."""
    shuffle: bool = True
    """Shuffle each epoch anew; false: the data's own order."""
    curriculum: CurriculumConfig | None = None
    """Sort each epoch; null: as shuffle says."""

    @property
    def sources(self) -> Mapping[str, DataConfig]:
        """Each source by its name; one alone has none."""
        return self.mix or {"": self}

    @property
    def weights(self) -> list[float]:
        """The sources' weights, in their order."""
        return [own.weight for own in self.mix.values()]

    @model_validator(mode="after")
    def _is_one_source_or_several(self) -> Self:
        if not self.mix:
            if not self.source:
                raise ValueError("data.source is empty: name the rows, or several sources in mix")
            return self
        own = [name for name in DataConfig.model_fields if getattr(self, name) != _DEFAULTS[name]]
        if own:
            raise ValueError(
                f"data.{own[0]}={getattr(self, own[0])!r} beside data.mix: each source of a mix "
                "says that itself; move it there, or leave mix out"
            )
        return self

    @model_validator(mode="after")
    def _weights_share_a_batch(self) -> Self:
        shares = [fractions.Fraction(str(weight)) for weight in self.weights]
        cycle = sum(shares) * lcm(*(share.denominator for share in shares))
        if cycle > _LONGEST_CYCLE:
            raise ValueError(
                f"the weights of data.mix, {self.weights}, are whole shares of no fewer than "
                f"{int(cycle):,} problems; round them, such as to 7 and 3"
            )
        return self


_DEFAULTS = {name: field.default for name, field in TrainingDataConfig.model_fields.items()}
_LONGEST_CYCLE = 100_000


class EvaluationConfig(StrictModel):
    """Held-out problems, before, during and after."""

    data: DataConfig | None = None
    """Held-out problems; null: no evaluation."""
    every: PositiveInt = 20
    """Steps between evaluations."""
    samples: PositiveInt = 4
    """k of avg@k: answers sampled to each problem."""
    sampling: SamplingConfig | None = None
    """How tokens of held-out answers are drawn; null: as rollout says."""
    problems: PositiveInt | None = None
    """Use only the first so many; null: all."""

    @model_validator(mode="after")
    def _some_are_drawn(self) -> Self:
        if self.sampling is not None and self.data is None:
            raise ValueError(
                "evaluation.sampling without evaluation.data: there are no held-out problems to "
                "answer; name some in evaluation.data, or remove sampling"
            )
        return self


class ChatLimits(StrictModel):
    """What a chat may hold."""

    max_tokens: PositiveInt = 16_384
    """Chats longer than this, image tokens included, are rejected, never truncated (paper, section
    2.1: 16,384)."""
    max_images: PositiveInt = 8
    """Most images of a chat or prompt; an engine makes room for them."""
    max_pixels: PositiveInt | None = None
    """Larger images are scaled down to so many pixels (width x height), their shape kept, for
    engine and learner alike; null: the policy's own processor alone decides."""


class PromptConfig(ChatLimits):
    """How a problem becomes a prompt."""

    system: str | None = None
    """System message; null: none."""
    suffix: str = ""
    """Text put after each question, on a line of its own."""
    max_tokens: PositiveInt = 4096
    """Prompts longer than this, image tokens included, are rejected, never truncated."""


ChatFormat = Literal["messages", "conversations", "prompt_completion", "verl"]


class TurnsConfig(SourceConfig):
    """How turns of chats are read, beside the columns that hold them."""

    system_column: str | None = None
    """Column with the row's own system message; null: none."""
    ignore_columns: tuple[str, ...] = ()
    """Columns that are known to mean something (system, history, tools) and shall not count."""
    think_tags: tuple[str, str] = ("<think>", "</think>")
    """Put around a turn's `reasoning_content`, before its content."""


class PreferenceDataConfig(TurnsConfig):
    """Where preference pairs come from, and what its columns are called."""

    prompt_column: str | None = "prompt"
    """Column with what is asked, a text or messages; null: the other two begin with it, as
    messages (TRL's implicit prompt)."""
    chosen_column: str = "chosen"
    """Column with the preferred answer, a text or messages."""
    rejected_column: str = "rejected"
    """Column with the other answer, in the same form."""
    image_column: str | None = None
    """Column with an image or a list of images; null: `images` or `image`, whichever is there."""
    image_folder: Path | None = None
    """Folder that image paths start at and may not leave; null: the data file's own."""


class ChatDataConfig(TurnsConfig):
    """Where chats come from, and what its columns are called."""

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
    image_folder: Path | None = None
    """Folder that image paths start at and may not leave; null: the data file's own."""
    turns: Literal["all", "last"] = "all"
    """Assistant turns that are learned; the others are context."""
