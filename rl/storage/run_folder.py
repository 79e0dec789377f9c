"""A run's folder: its recipe, and what an earlier run left there."""

import shutil
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


def aside_of(folder: Path) -> Path:
    """An empty place beside `folder` for what is written before the run takes it.

    A run that is refused leaves its list of rejected rows there, and an earlier run as it was.
    """
    aside = folder.with_name(f"{folder.name}.refused")
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def take_run_folder(folder: Path, aside: Path, *, new: bool) -> None:
    """Make `folder` the run's, with the files from `aside`; a `new` run moves an older one away."""
    if new:
        archive_existing_run(folder)
    for file in aside.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    shutil.rmtree(aside, ignore_errors=True)


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
