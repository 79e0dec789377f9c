"""Every shipped recipe is a recipe."""

from pathlib import Path

import pytest

from configs.load import RECIPES, find_recipe, read_recipe, save_recipe
from configs.schema import GRPORecipe

SHIPPED = sorted(RECIPES.rglob("*.yaml"))


def test_recipes_are_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_a_shipped_recipe_is_read_by_its_name_and_again_from_a_run_folder(
    path: Path, tmp_path: Path
) -> None:
    found = find_recipe(path.relative_to(RECIPES).with_suffix("").as_posix())
    assert found == path
    recipe = read_recipe(found, GRPORecipe)
    assert read_recipe(save_recipe(recipe, tmp_path), GRPORecipe) == recipe


def test_no_two_recipes_share_a_run_folder() -> None:
    folders = [read_recipe(path, GRPORecipe).run_folder for path in SHIPPED]
    assert len(set(folders)) == len(folders)
