"""What is cached is named by all that decides it, and is made once."""

from pathlib import Path

import pytest
from transformers import AutoConfig

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import RECIPES, read_recipe
from configs.schema.tiny import PartsConfig, TinyPathConfig
from rl.tiny.parts import cached_parts
from rl.tiny.start_policy import start_policy_folder, untrained_policy


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R1V_CACHE", str(tmp_path))
    return tmp_path


def recipe(name: str = "digits") -> GRPORecipe:
    return read_recipe(RECIPES / f"{name}.yaml", GRPORecipe)


def test_parts_are_named_by_their_lessons_and_their_seed(cache: Path) -> None:
    folders = {
        cached_parts(PartsConfig(), 0).folder,
        cached_parts(PartsConfig(), 1).folder,
        cached_parts(PartsConfig(base_steps=7), 0).folder,
    }
    assert len(folders) == 3
    assert all(folder.is_relative_to(cache) for folder in folders)
    assert cached_parts(PartsConfig(), 0).folder in folders


def test_a_start_policy_is_named_by_path_seed_and_what_it_reads() -> None:
    start = recipe()
    other_path = start.model_copy(update={"start": TinyPathConfig(sft_steps=7)})
    other_parts = start.model_copy(
        update={"start": TinyPathConfig(parts=PartsConfig(tower_steps=7))}
    )
    other_seed = start.model_copy(update={"seed": 7})
    same = start.model_copy(update={"steps": 7, "name": "another"})
    names = [start_policy_folder(each) for each in (other_path, other_parts, other_seed)]
    names += [start_policy_folder(recipe("digits_text"))]
    assert len({start_policy_folder(start), *names}) == 5
    assert start_policy_folder(same) == start_policy_folder(start)


def test_the_blank_policy_reads_pictures_only_where_the_recipe_does() -> None:
    assert AutoConfig.from_pretrained(untrained_policy(recipe())).model_type == "internvl"
    assert AutoConfig.from_pretrained(untrained_policy(recipe("digits_text"))).model_type == "qwen2"
