"""Other families than the laptop's own learn through the same code, with the real engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.sft import SFTRecipe
from models.chat_packing import pack_chats
from models.inputs import InputEncoder
from models.parts import part_of
from models.policy import Policy, load_learning_model
from rl.chats import ChatSet
from rl.records import Problem
from tests.families import FAMILIES
from tests.ray.chats import figures, seen, sft_recipe, train_all
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", params=["qwen2.5-vl", "llava", "qwen3"])
def family(
    request: pytest.FixtureRequest, cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("family")
    FAMILIES[request.param](folder)
    plan = recipe(folder, loss={"kl": {"coef": 0.0}})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def problems_for(system: System) -> list[Problem]:
    """With pictures of several shapes, several in one prompt, and none, as the family can."""
    if not system.encoder.has_vision:
        return [problem(number, images=0) for number in range(4)]
    shapes = [problem(1, size=(56, 56)), problem(2, size=(150, 60)), problem(3, size=(40, 130))]
    return [*shapes, problem(4, images=2, size=(90, 60)), problem(5, images=0)]


def test_a_step_of_grpo_on_another_family_is_served_as_it_was_learned(family: System) -> None:
    asked = problems_for(family)
    before = family.sample(asked, temperature=0.0)
    groups = family.sample(asked)
    assert [g.prompt_ids for g in groups] == [family.encoder.encode(p) for p in asked]
    assert mean_gap(family.gaps(groups)) < 1e-4
    report = family.learners.update(learned_from(groups))
    assert not report.skipped and report.metrics["logprob_gap"] < 1e-4
    family.publish()
    after = family.sample(asked, temperature=0.0)
    expected = family.greedy_by_transformers(asked, tokens=24)
    assert [group.answers[0].token_ids for group in after] == expected
    assert [group.answers[0].token_ids for group in before] != expected
    assert mean_gap(family.gaps(family.sample(asked))) < 1e-4


@pytest.fixture(scope="module")
def taught(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SFTRecipe]:
    """A step of supervised learning on each family by two workers, ZeRO 3, one job for all."""
    folder = tmp_path_factory.mktemp("taught")
    recipes: dict[str, SFTRecipe] = {}
    for family in ("qwen2.5-vl", "llava"):
        FAMILIES[family](folder / family)
        learner = {"zero_stage": 3, "ranks": 2, "optimizer": {"lr": 1e-3, "warmup_share": 0.0}}
        recipes[family] = sft_recipe(folder / family, folder, name=family, steps=1, learner=learner)
    train_all(list(recipes.values()), folder)
    return recipes


@pytest.mark.parametrize("family", ["qwen2.5-vl", "llava"])
def test_a_step_of_sft_on_another_family_learns_what_plain_pytorch_would(
    taught: dict[str, SFTRecipe], family: str
) -> None:
    recipe = taught[family]
    encoder = InputEncoder(recipe.policy.path, recipe.encoding, False)
    start = load_learning_model(recipe.policy, recipe.policy.path)
    policy = Policy(start, encoder, temperature=1.0, chunk=64)
    chats = ChatSet.open(
        recipe.data,
        measure=encoder.measure_chat,
        max_tokens=128,
        rejected=recipe.run_folder / "again.jsonl",
        seed=recipe.seed,
    )
    (rows,) = seen(recipe.run_folder)
    logprobs: list[torch.Tensor] = []
    with torch.no_grad():
        for chat in chats.chats(rows):
            packed = pack_chats([[encoder.encode_chat(chat)]], encoder.pad_id)
            logprobs.append(policy(packed, encoder.pixels([chat]))[0])
    assert figures(recipe, "loss") == pytest.approx([-torch.cat(logprobs).mean().item()], abs=1e-4)

    before = load_file(Path(recipe.policy.path) / "model.safetensors")
    after = load_file(recipe.policy_folder / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {part_of(name) for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"projector", "language"}
