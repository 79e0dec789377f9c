"""The schema of the whole recipe in one run: parts, alignment, swap, rounds, GRPO, evaluation."""

from typing import Self

from pydantic import model_validator

from configs.jobs.assembly import AssembleOptions
from configs.jobs.rounds import RoundsSections
from configs.jobs.stage import AlignStage, EvaluateStage, GRPOStage
from configs.schema.base import StrictModel
from configs.schema.start import StartPartsConfig


class PartsPathsConfig(StrictModel):
    """What the model is put together of (paper, section 2.1)."""

    vision: str = ""
    """Folder or hub name of the vision encoder (paper: InternViT-6B-448px-V2_5)."""
    substitute: str = ""
    """Of the language model that the projector is aligned with (paper: Qwen2.5-32B-Instruct)."""
    reasoner: str = ""
    """Of the language model that takes its place (paper: DeepSeek-R1-Distill-Qwen-32B)."""
    options: AssembleOptions = AssembleOptions()


class PipelineRecipe(RoundsSections):
    """R1V's whole path. A finished stage is skipped when the recipe is run again."""

    parts: PartsPathsConfig = PartsPathsConfig()
    start: StartPartsConfig | None = None
    """Makes the parts where `parts` names none; null: it names all three."""
    align: AlignStage
    """Alignment of the projector with the substitute."""
    reuse_aligned: bool = True
    """Keep the aligned model in the user's cache, and take it from there when parts, settings and
    seed are the same."""
    grpo: GRPOStage
    """GRPO on the problems whose chains have the highest grade (paper, section 2.2: 5)."""
    evaluate: EvaluateStage | None = None
    """Benchmarks asked of the last policy; null: none beside `held_out`."""

    @model_validator(mode="after")
    def _parts_come_from_one_place(self) -> Self:
        named = [bool(getattr(self.parts, n)) for n in ("vision", "substitute", "reasoner")]
        if self.start is None and not all(named):
            raise ValueError(
                "parts.vision, parts.substitute and parts.reasoner must all be named, or a start "
                "section must make them"
            )
        if self.start is not None and any(named):
            raise ValueError("parts names parts and start makes them; leave one of the two out")
        return self
