"""A supervised run that cannot go on stays as it was."""

from pathlib import Path

import pytest
from ray.train import TrainingFailedError

from configs.jobs.sft import AlignRecipe
from configs.loading.recipe import SAVED_AS, read_recipe
from rl.jobs.sft import sft_runs
from tests.ray.chats import align_recipe, chat_file

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def aligned(policy: Path, folder: Path, lr: float) -> AlignRecipe:
    """One pass of one step, whose worker is not started again."""
    one = {"data": {"source": str(chat_file(folder, 22))}, "steps": 1, "lr": lr}
    recipe = align_recipe(policy, folder, name="aligned", passes=[one])
    return recipe.model_copy(update={"learner": recipe.learner.model_copy(update={"restarts": 0})})


def test_a_changed_recipe_is_kept_once_its_run_could_go_on(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    recipe, changed = (aligned(vlm_folder, tmp_path, lr) for lr in (1e-3, 2e-3))
    (run,) = recipe.runs
    saved = (recipe.run_folder / SAVED_AS, run.run_folder / SAVED_AS)
    sft_runs([recipe])
    before = [path.read_bytes() for path in saved]
    (run.run_folder / "summary.json").unlink()  # as if its last word had not been said

    (learner,) = run.run_folder.glob("checkpoints/*/learner")
    states = [path for path in learner.rglob("*") if path.is_file()]
    whole = {path: path.read_bytes() for path in states}
    for path in states:
        path.write_bytes(bytes(path.stat().st_size))  # its size is all that is looked at before
    with pytest.raises(TrainingFailedError):
        sft_runs([changed], resume=True)
    assert [path.read_bytes() for path in saved] == before

    for path, content in whole.items():
        path.write_bytes(content)
    sft_runs([changed], resume=True)
    assert read_recipe(saved[0], AlignRecipe).passes[0].lr == 2e-3
    assert [path.read_bytes() for path in saved] != before
