"""What commands do alike: read the recipe, show it where no more is asked, end on errors."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from configs.loading.recipe import FLAGS, RECIPES, SAVED_AS, Command, load_recipe, recipe_text
from configs.schema.run import RunRecipe, TrainingRecipe
from rl.console.errors import exit_on_user_error
from rl.console.progress import CONSOLE
from rl.console.quiet import quieten_libraries

R = TypeVar("R", bound=BaseModel)


def run_command(
    argv: Sequence[str],
    schema: type[R],
    work: Callable[[Command[R]], None],
    *,
    default: str | None,
    dry_run: Callable[[R], None] | None = None,
    flags: Sequence[str] = tuple(FLAGS),
) -> None:
    """Read the recipe in `argv` and do `work`, or what `dry_run` does where it says --dry-run.

    `default`: name of the recipe that is taken where none is named; None: the command line says
    everything. `dry_run` None: the resolved recipe is shown. `flags`: those that `argv` may hold.
    A UserError ends the process with its text and status 1, a recipe that cannot be used with 2.
    """
    quieten_libraries()
    known = {flag: FLAGS[flag] for flag in flags}
    path: Path | None = RECIPES / f"{default}.yaml" if default else None
    command = load_recipe(argv, schema, path, known, _other_readers)
    with exit_on_user_error():
        if not command.dry_run:
            begun = not command.or_start or _begun(command.recipe)
            work(replace(command, resume=command.resume and begun))
        elif dry_run:
            dry_run(command.recipe)
        else:
            CONSOLE.print(recipe_text(command.recipe))


def _begun(recipe: BaseModel) -> bool:
    """Whether the run left something to go on from: a checkpoint, its own or of a pass of it; or,
    where a command keeps answers instead, its recipe."""
    assert isinstance(recipe, RunRecipe), "other commands do not take --resume-or-start"
    folder = recipe.run_folder
    if isinstance(recipe, TrainingRecipe):
        return any(folder.glob("checkpoints/step_*")) or any(folder.glob("*/checkpoints/step_*"))
    return (folder / SAVED_AS).is_file()


def _other_readers(path: Path, schema: type[BaseModel]) -> list[str]:
    """The schemas of all commands, which take a moment to import, only where one is needed."""
    from configs.jobs.commands import other_readers

    return other_readers(path, schema)
