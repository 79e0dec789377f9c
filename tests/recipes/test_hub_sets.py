"""Shipped recipes read the data sets that they name as the hub has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import RECIPES
from configs.schema.data import DataConfig
from rewards.trial import check_gold
from rl.data.problems import ProblemSet
from tests.recipes.hub_sets import HUB_SETS
from tests.recipes.test_recipes import SHIPPED, read_by_its_job
from tests.unit.rl.benchmarks.hub_files import parquet

OWN = "data/r1v/"
"""Where recipes look for data that Skywork never published."""


def _named() -> Iterator[tuple[str, GRPORecipe, DataConfig]]:
    """Every data set of the hub that a recipe names."""
    for path in SHIPPED:
        recipe = read_by_its_job(path)
        if not isinstance(recipe, GRPORecipe) or recipe.device != "cuda":
            continue
        name = path.relative_to(RECIPES).with_suffix("").as_posix()
        evaluated = recipe.evaluation.data
        for data in (*recipe.data.sources.values(), *([evaluated] if evaluated else [])):
            if not data.source.startswith(OWN):
                yield f"{name}-{data.split}", recipe, data


NAMED = list(_named())


@pytest.mark.parametrize(
    ("recipe", "data"), [each[1:] for each in NAMED], ids=[each[0] for each in NAMED]
)
def test_a_recipe_reads_every_row_of_a_set_of_the_hub(
    recipe: GRPORecipe, data: DataConfig, tmp_path: Path
) -> None:
    there = HUB_SETS[data.source]
    assert data.split in there.splits
    file = parquet(tmp_path / "rows.parquet", there.columns, there.rows)
    problems = ProblemSet.open(
        data.model_copy(update={"source": str(file)}),
        measure=lambda _: 1,
        max_tokens=1,
        rejected=tmp_path / "run" / "rejected.jsonl",
    )
    assert not problems.rejected
    read = problems.first(None)
    assert [problem.gold for problem in read] == [(row["answer"],) for row in there.rows]
    assert all(len(problem.images) == there.images for problem in read)
    assert all(there.images <= recipe.prompt.max_images for _ in read)
    assert len({problem.id for problem in read}) == len(read)
    for problem in read:
        check_gold(recipe.reward, problem)


def test_an_evaluation_asks_no_more_than_there_is() -> None:
    asked = {
        (recipe.evaluation.data.source, recipe.evaluation.data.split, recipe.evaluation.problems)
        for _, recipe, _ in NAMED
        if recipe.evaluation.data
    }
    assert asked
    for source, split, problems in asked:
        assert problems is None or problems <= HUB_SETS[source].splits[split]
