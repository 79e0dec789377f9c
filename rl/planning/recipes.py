"""Plans of recipes, whichever command reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from actors.cluster.plan import Recipe
from configs.jobs.commands import READS, other_readers
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.plan import PlanRecipe
from configs.jobs.sft import SupervisedRecipe
from configs.loading.recipe import RECIPES, RecipeError, find_recipe, read_recipe
from rl.console.errors import DoesNotFit, UserError
from rl.console.progress import CONSOLE
from rl.planning.check import planned_run
from rl.planning.machine import Machine
from rl.planning.tables import print_run

_ON_GPUS = "device: cuda"


def print_plans(asked: PlanRecipe) -> None:
    """Print the plan of each recipe, on the machine that it names.

    Raises:
        UserError: a recipe cannot be read, or takes no actors of its own.
        DoesNotFit: a recipe does not fit; those behind it are printed first.
    """
    named = [(name, read(find(name), asked.changes)) for name in asked.recipes or for_gpus()]
    faults: list[str] = []
    for name, recipe in named:
        CONSOLE.rule(name)
        try:
            run = planned_run(recipe, Machine.of_recipe(recipe))
            print_run(run)
            run.refuse_what_does_not_fit()
        except DoesNotFit as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise DoesNotFit("\n".join(faults))


def for_gpus() -> list[str]:
    """Names of the shipped recipes that ask for GPUs and take actors of their own."""
    paths = sorted(RECIPES.rglob("*.yaml"))
    names = [path for path in paths if _ON_GPUS in path.read_text("utf-8")]
    return [p.relative_to(RECIPES).with_suffix("").as_posix() for p in names if _schemas(p)]


def find(name: str) -> Path:
    """The recipe's file. UserError where there is none."""
    try:
        return find_recipe(name)
    except RecipeError as error:
        raise UserError(str(error)) from None


def read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path` with `changes`, by the command that reads it.

    Raises:
        UserError: none does; or they cannot be used.
    """
    schemas = _schemas(path)
    if not schemas:
        raise UserError(
            f"{path} is no recipe of a run with actors of its own: name one of grpo, sft, align, "
            "mpo, distill or evaluate; the stages of a longer run have plans of their own"
        )
    try:
        return read_recipe(path, schemas[0], changes)
    except RecipeError as error:
        raise UserError(str(error)) from None


def _schemas(path: Path) -> list[type[Recipe]]:
    """Those of the commands that read it and take actors."""
    kinds = (GRPORecipe, SupervisedRecipe, GenerationRecipe)
    names = other_readers(path, PlanRecipe)
    schemas = [READS[name] for name in names if issubclass(READS[name], kinds)]
    return cast("list[type[Recipe]]", schemas)
