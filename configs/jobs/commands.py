"""Which recipe each command reads."""

from pathlib import Path

from pydantic import BaseModel

from configs.jobs.assembly import AssembleRecipe, ConvertRecipe
from configs.jobs.distill import DistillRecipe
from configs.jobs.evaluate import CompareRecipe, EvaluateRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.mpo import MPORecipe
from configs.jobs.pipeline import PipelineRecipe
from configs.jobs.plan import PlanRecipe
from configs.jobs.rounds import RoundsRecipe
from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.jobs.transfer import TransferRecipe
from configs.jobs.view import ViewRecipe
from configs.loading.recipe import RecipeError, read_recipe

READS: dict[str, type[BaseModel]] = {
    "align": AlignRecipe,
    "assemble": AssembleRecipe,
    "compare": CompareRecipe,
    "convert": ConvertRecipe,
    "distill": DistillRecipe,
    "evaluate": EvaluateRecipe,
    "grpo": GRPORecipe,
    "mpo": MPORecipe,
    "pipeline": PipelineRecipe,
    "plan": PlanRecipe,
    "rounds": RoundsRecipe,
    "sft": SFTRecipe,
    "transfer": TransferRecipe,
    "view": ViewRecipe,
}
"""By the command's name, which is its file's in rl/."""


def other_readers(path: Path, schema: type[BaseModel]) -> list[str]:
    """Names of the commands that read the recipe in `path`, which `schema` does not fit."""

    def fits(other: type[BaseModel]) -> bool:
        try:
            read_recipe(path, other)
        except RecipeError:
            return False
        return True

    if fits(schema):
        return []
    return [name for name, other in READS.items() if other is not schema and fits(other)]
