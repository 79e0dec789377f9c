"""A run goes on only under a recipe that asks the same problems."""

from pathlib import Path
from typing import Any

import pytest

from configs.jobs.sft import SFTRecipe
from configs.schema.data import ChatDataConfig
from configs.schema.policy import PolicyConfig
from rl.jobs.resume import ChangedProblems, check_same_problems
from rl.storage.run_folder import save_recipe
from tests.unit.step_samples import recipe


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_recipe(recipe(seed=3, problems_per_step=4), tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"problems_per_step": 8}, "problems_per_step was 4, now 8"),
        ({"data": {"source": "other.jsonl"}}, "data.source was "),
        ({"data": {"source": "digits", "limit": 7}}, "data.limit was null, now 7"),
        ({"prompt": {"max_tokens": 77}}, "prompt.max_tokens was "),
    ],
)
def test_what_decides_the_problems_may_not_change(
    saved: Path, change: dict[str, Any], told: str
) -> None:
    asked = {"seed": 3, "problems_per_step": 4} | change
    with pytest.raises(ChangedProblems) as caught:
        check_same_problems(saved, recipe(**asked))
    assert told in str(caught.value)
    assert f"policy.path={saved.parent / 'policy'}" in str(caught.value)


def test_all_changes_are_told_at_once(saved: Path) -> None:
    with pytest.raises(ChangedProblems, match=r"problems_per_step was 4, now 5; seed was 3, now 9"):
        check_same_problems(saved, recipe(seed=9, problems_per_step=5))


def test_everything_else_may_change(saved: Path) -> None:
    now = recipe(
        seed=3,
        problems_per_step=4,
        name="another",
        steps=999,
        learner={"ranks": 2, "optimizer": {"lr": 0.5}},
        log={"wandb": False, "folder": "elsewhere"},
        data={"source": recipe().data.source, "max_rejected_share": 0.5},
    )
    check_same_problems(saved, now)


def test_a_recipe_of_a_time_without_a_field_can_go_on(saved: Path) -> None:
    lines = saved.read_text("utf-8").splitlines(keepends=True)
    saved.write_text("".join(line for line in lines if not line.startswith("seed:")), "utf-8")
    check_same_problems(saved, recipe(seed=8, problems_per_step=4))


def test_a_key_of_an_earlier_recipe_counts_by_the_name_that_it_has_now(tmp_path: Path) -> None:
    saved = tmp_path / "recipe.yaml"
    saved.write_text("seed: 0\nbatch: 64\n", "utf-8")
    now = SFTRecipe(
        name="sft",
        policy=PolicyConfig(path="policy"),
        data=ChatDataConfig(source="chats.jsonl"),
        batch_size=32,
    )
    with pytest.raises(ChangedProblems, match="batch_size was 64, now 32"):
        check_same_problems(saved, now)
