"""A run's folder: its recipe, and what an earlier run left there."""

from pathlib import Path

from pydantic import BaseModel

from configs.loading.recipe import SAVED_AS, recipe_text
from rl.console.progress import CONSOLE
from rl.storage.atomic import atomic_file


def save_recipe(recipe: BaseModel, folder: Path) -> Path:
    """Write `recipe` to `folder`/recipe.yaml, whole or not at all; it can be run from there."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / SAVED_AS
    with atomic_file(target) as aside:
        aside.write_text(recipe_text(recipe), "utf-8")
    return target


def archive_existing_run(folder: Path) -> None:
    """Move a run that already lies in `folder` to the first free `folder`-1, -2 ..., and say so.

    For a run that starts from the beginning: no run is ever written over.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    folder.rename(aside)
    CONSOLE.print(f"an older run of this name now lies in {aside}")
