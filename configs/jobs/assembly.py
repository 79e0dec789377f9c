"""Recipes of the two commands that put checkpoints together and rewrite them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from configs.schema.base import StrictModel

ShardGiB = Annotated[float, Field(gt=0.0)]


class AssembleOptions(StrictModel):
    """Choices that neither the vision encoder nor the language model makes."""

    seed: NonNegativeInt = 0
    """Draws the projector's first weights, and new embedding rows where they are drawn."""
    new_rows: Literal["mean", "normal"] = "mean"
    """Embedding rows of added tokens: mean of the language model's rows, or drawn around zero with
    their spread."""
    feature_layer: int = -1
    """Layer of the vision encoder that is read, from its end; -1: its output."""
    min_tiles: PositiveInt = 1
    """Fewest tiles that an image is cut into."""
    max_tiles: PositiveInt = 12
    """Most tiles that an image is cut into; a thumbnail joins where it is more than one."""
    normalise: Literal["tower", "imagenet"] = "tower"
    """Mean and spread of pixels: the vision encoder's own, where its folder names them, or
    ImageNet's."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of all weights; auto: the language model's."""
    shard_gib: ShardGiB = 5.0
    """Size of a file of weights, GiB; about as much memory is used."""

    @model_validator(mode="after")
    def _tiles_are_a_range(self) -> Self:
        if self.min_tiles > self.max_tiles:
            raise ValueError(
                f"min_tiles={self.min_tiles} is more than max_tiles={self.max_tiles}; lower it"
            )
        return self


_OF_THE_ENCODER = {"feature_layer", "min_tiles", "max_tiles", "normalise"}


class AssembleRecipe(StrictModel):
    """Joins a vision encoder and a language model, or gives a joined model another one."""

    vision: str = ""
    """Folder or hub name of the vision encoder; a whole InternVL model lends its own."""
    base: str = ""
    """Folder or hub name of an assembled model whose vision encoder and projector are kept."""
    llm: str
    """Folder or hub name of the language model, with its tokenizer and chat template."""
    out: Path
    """Folder to write; must not exist."""
    options: AssembleOptions = AssembleOptions()

    @model_validator(mode="after")
    def _one_source_of_sight(self) -> Self:
        if bool(self.vision) == bool(self.base):
            raise ValueError(
                "name either vision= (a new projector is made) or base= (a projector is kept), "
                "not both and not neither"
            )
        kept = sorted(self.options.model_fields_set & _OF_THE_ENCODER) if self.base else []
        if kept:
            raise ValueError(
                f"options.{', options.'.join(kept)}: base={self.base!r} brings its own; leave out"
            )
        return self


class ConvertRecipe(StrictModel):
    """Rewrites a checkpoint from one layout into the other."""

    source: str
    """Folder or hub name of the checkpoint."""
    out: Path
    """Folder to write; must not exist."""
    layout: Literal["transformers", "skywork", "internvl"]
    """transformers: InternVLForConditionalGeneration; skywork: SkyworkR1VChatModel; internvl:
    InternVLChatModel."""
    shard_gib: ShardGiB = 5.0
    """Size of a file of weights, GiB; about as much memory is used."""
