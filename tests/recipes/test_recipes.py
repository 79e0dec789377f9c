"""Every shipped recipe is a recipe, and says what it would start."""

from pathlib import Path

import pytest
import ray

from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.loading.recipe import RECIPES, RecipeError, find_recipe, read_recipe
from configs.schema.run import RunRecipe
from rl.console.progress import CONSOLE
from rl.storage.run_folder import save_recipe
from tests.commands import RUNS
from tests.repository import ROOT

SHIPPED = sorted(RECIPES.rglob("*.yaml"))
ROLES: dict[type[RunRecipe], tuple[str, ...]] = {
    GRPORecipe: ("rollout", "learner", "reward", "weights travel by"),
    SupervisedRecipe: ("learner", "DeepSpeed rank"),
    GenerationRecipe: ("rollout", "reward"),
}


def read_by_its_job(path: Path) -> RunRecipe:
    """The recipe in `path`, which must be one of exactly one job."""
    read: list[RunRecipe] = []
    faults: list[str] = []
    for job in RUNS:
        try:
            read.append(read_recipe(path, job))
        except RecipeError as error:
            faults.append(f"{job.__name__}: {error}")
    assert len(read) == 1, f"{[type(one).__name__ for one in read]} can read {path}: {faults}"
    return read[0]


def test_the_recipe_to_copy_is_one_that_grpo_alone_reads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    recipe = read_by_its_job(tmp_path / "mine.yaml")
    assert isinstance(recipe, GRPORecipe)
    assert recipe.prompt.suffix.endswith("within \\boxed{}.")


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
        RUNS[job](words)
    told = captured.get()
    assert "name: shown" in told
    for role in next((words for kind, words in ROLES.items() if issubclass(job, kind)), ()):
        assert role in told
    assert not list(tmp_path.iterdir())


def test_no_two_recipes_share_a_run_folder() -> None:
    folders = [read_by_its_job(path).run_folder for path in SHIPPED]
    assert len(set(folders)) == len(folders)
