"""Every shipped recipe is a recipe, and says what it would start."""

from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from configs.loading.recipe import RECIPES, RecipeError, find_recipe, read_recipe
from configs.schema.grpo import GRPORecipe
from configs.schema.sft import AlignRecipe, SFTRecipe
from configs.schema.transfer import TransferRecipe
from rl import align, grpo, sft, transfer
from rl.console.progress import CONSOLE
from rl.storage.run_folder import save_recipe

SHIPPED = sorted(RECIPES.rglob("*.yaml"))
Recipe = GRPORecipe | SFTRecipe | AlignRecipe | TransferRecipe
JOBS: dict[type[Recipe], Callable[[list[str]], None]] = {
    GRPORecipe: grpo.main,
    SFTRecipe: sft.main,
    AlignRecipe: align.main,
    TransferRecipe: transfer.main,
}


def read_by_its_job(path: Path) -> Recipe:
    """The recipe in `path`, which must be one of exactly one job."""
    read: list[Recipe] = []
    faults: list[str] = []
    for job in JOBS:
        try:
            read.append(read_recipe(path, job))
        except RecipeError as error:
            faults.append(f"{job.__name__}: {error}")
    assert len(read) == 1, f"{[type(one).__name__ for one in read]} can read {path}: {faults}"
    return read[0]


def test_recipes_are_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_a_shipped_recipe_is_read_by_its_name_and_again_from_a_run_folder(
    path: Path, tmp_path: Path
) -> None:
    found = find_recipe(path.relative_to(RECIPES).with_suffix("").as_posix())
    assert found == path
    recipe = read_by_its_job(found)
    assert read_recipe(save_recipe(recipe, tmp_path), type(recipe)) == recipe


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_a_dry_run_shows_recipe_and_plan_and_starts_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a dry run starts no cluster"))
    job = type(read_by_its_job(path))
    words = [str(path), "--dry-run", "name=shown", f"log.folder={tmp_path}"]
    with CONSOLE.capture() as captured:
        JOBS[job](words)
    told = captured.get()
    assert "name: shown" in told
    roles = {GRPORecipe: ("rollout", "learner", "reward", "weights travel by")}
    for role in roles.get(job, () if job is TransferRecipe else ("learner", "DeepSpeed rank")):
        assert role in told
    assert not list(tmp_path.iterdir())


def test_no_two_recipes_share_a_run_folder() -> None:
    folders = [read_by_its_job(path).run_folder for path in SHIPPED]
    assert len(set(folders)) == len(folders)
