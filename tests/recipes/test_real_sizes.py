"""Recipes of real sizes fit the GPUs that they were written for, told on meta tensors."""

from functools import cache

import pytest

from actors.cluster.plan import plan_of
from configs.jobs.evaluate import EvaluateRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.pipeline import PipelineRecipe
from configs.jobs.rounds import PAPER_ROUNDS
from configs.jobs.sft import AlignRecipe, SFTRecipe, SupervisedRecipe
from configs.loading.recipe import RECIPES, find_recipe, read_recipe
from configs.schema.rollout import EngineConfig
from models.policy.memory import EngineMemory, MemoryEstimator
from rl.console.errors import DoesNotFit
from tests.recipes.architectures import ARCHITECTURES
from tests.recipes.test_recipes import SHIPPED

GPU_GIB = 80e9 / 2**30
LEFT_FOR_CUDA = 4.0
"""Contexts, workspaces and fragments that no sum here knows, GiB."""

GPUS = {
    "r1v_38b/align": 64,
    "r1v_38b/sft": 64,
    "r1v_38b/grpo": 64,
    "qwen2_5_vl_7b_geometry3k": 8,
    "qwen2_5_vl_3b_one_gpu": 1,
    "internvl3_8b": 8,
    "deepseek_r1_distill_qwen_1_5b_text": 8,
}
EVALUATED = {"r1v_38b/evaluate": "r1v_38b/grpo"}
"""Evaluations, and the recipe whose policy they ask."""
WHOLE = "r1v_38b/pipeline"
"""All stages of R1V in one recipe."""
REINFORCED = [name for name in GPUS if name not in ("r1v_38b/align", "r1v_38b/sft")]
SUPERVISED: dict[str, type[SupervisedRecipe]] = {
    "r1v_38b/align": AlignRecipe,
    "r1v_38b/sft": SFTRecipe,
}


def grpo(name: str) -> GRPORecipe:
    return read_recipe(find_recipe(name), GRPORecipe)


def recipe_of(name: str) -> GRPORecipe | SupervisedRecipe:
    return read_recipe(find_recipe(name), SUPERVISED.get(name, GRPORecipe))


@cache
def skeleton(name: str) -> MemoryEstimator:
    return MemoryEstimator(ARCHITECTURES[name].config, recipe_of(name).policy)


@pytest.mark.parametrize("name", ["r1v_38b/grpo", *REINFORCED[1:]])
def test_an_architecture_has_the_parameters_that_its_card_says(name: str) -> None:
    sizes = skeleton(name).sizes
    adapters = 0.12e9 if recipe_of(name).policy.lora else 0.0  # rank 64 on every linear layer
    assert sum(sizes.values()) - adapters == pytest.approx(
        ARCHITECTURES[name].billions * 1e9, rel=5e-3
    )


def test_r1v_learns_by_the_projector_of_the_paper() -> None:
    # LayerNorm(12800), Linear(12800, 5120), Linear(5120, 5120), all with bias.
    by_hand = 2 * 12800 + (12800 + 1) * 5120 + (5120 + 1) * 5120
    for name in ("r1v_38b/align", "r1v_38b/sft", "r1v_38b/grpo"):
        assert skeleton(name).learning == skeleton(name).sizes["projector"] == by_hand


@pytest.mark.parametrize("name", GPUS)
def test_a_recipe_reserves_the_gpus_that_it_names(name: str) -> None:
    plan = plan_of(recipe_of(name).model_copy(update={"device": "cuda"}), {})
    assert sum(actors.count * actors.gpus for actors in plan.actors) == GPUS[name]


@pytest.mark.parametrize("name", GPUS)
def test_a_learner_rank_fits_its_gpu(name: str) -> None:
    recipe = recipe_of(name)
    shared = isinstance(recipe, GRPORecipe) and recipe.sync.shared_gpu
    free = GPU_GIB * (1 - recipe.rollout.gpu_memory_utilization) if shared else GPU_GIB
    learner = skeleton(name).learner(recipe.learner)
    assert 0 < learner.activations < learner.total < free - LEFT_FOR_CUDA


@pytest.mark.parametrize("name", REINFORCED)
def test_an_engine_fits_its_gpus_with_room_for_many_answers(name: str) -> None:
    recipe = grpo(name)
    longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
    check_engine(skeleton(name).engine(recipe.rollout, longest), recipe.rollout)


@pytest.mark.parametrize("name", EVALUATED)
def test_an_engine_that_evaluates_fits_its_gpus(name: str) -> None:
    recipe = read_recipe(find_recipe(name), EvaluateRecipe)
    longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
    check_engine(skeleton(EVALUATED[name]).engine(recipe.rollout, longest), recipe.rollout)


def check_engine(engine: EngineMemory, rollout: EngineConfig) -> None:
    free = GPU_GIB * rollout.gpu_memory_utilization - engine.weights - LEFT_FOR_CUDA
    assert free > 16 * engine.answer_cache


@pytest.mark.parametrize("name", GPUS)
def test_the_largest_picture_leaves_room_for_the_question(name: str) -> None:
    recipe = recipe_of(name)
    assert ARCHITECTURES[name].image_tokens + 500 < recipe.prompt.max_tokens


def test_the_stages_of_the_whole_recipe_need_what_their_own_recipes_need() -> None:
    whole = read_recipe(find_recipe(WHOLE), PipelineRecipe)
    align = read_recipe(find_recipe("r1v_38b/align"), AlignRecipe)
    sft = read_recipe(find_recipe("r1v_38b/sft"), SFTRecipe)
    assert (whole.align.learner, whole.align.prompt) == (align.learner, align.prompt)
    assert whole.align.passes == align.passes
    rate = sft.learner.optimizer.lr
    optimizer = whole.sft.learner.optimizer.model_copy(update={"lr": rate})
    assert whole.sft.learner.model_copy(update={"optimizer": optimizer}) == sft.learner
    assert (whole.rounds[0].lr, whole.rounds[1:]) == (rate, PAPER_ROUNDS)
    single = grpo("r1v_38b/grpo")
    for section in ("rollout", "learner", "loss", "reward", "prompt", "checkpoint"):
        assert getattr(whole.grpo, section) == getattr(single, section), section
    assert whole.evaluate is not None
    asked = read_recipe(find_recipe("r1v_38b/evaluate"), EvaluateRecipe)
    one_node = whole.evaluate.rollout.model_copy(update={"workers": 1})
    assert (one_node, whole.evaluate.benchmarks) == (asked.rollout, asked.benchmarks)
    longest = whole.distill.prompt.max_tokens + whole.distill.rollout.max_new_tokens
    engine = skeleton("r1v_38b/grpo").engine(whole.distill.rollout, longest)
    check_engine(engine, whole.distill.rollout)


def test_every_recipe_for_gpus_is_looked_at() -> None:
    shipped = {path.relative_to(RECIPES).with_suffix("").as_posix() for path in SHIPPED}
    on_gpus = {name for name in shipped if "device: cuda" in find_recipe(name).read_text()}
    assert on_gpus == {*GPUS, *EVALUATED, WHOLE}
    assert ARCHITECTURES.keys() == GPUS.keys()


def test_a_width_that_does_not_divide_the_heads_is_refused() -> None:
    wide = grpo("r1v_38b/grpo").rollout.model_copy(update={"tensor_parallel_size": 16})
    with pytest.raises(DoesNotFit, match=r"40 attention heads and 8 key heads.*\[1, 2, 4, 8\]"):
        skeleton("r1v_38b/grpo").engine(wide, 16_384)


def test_memory_by_hand() -> None:
    recipe = grpo("deepseek_r1_distill_qwen_1_5b_text")
    billions = 1.777088
    learner = skeleton("deepseek_r1_distill_qwen_1_5b_text").learner(recipe.learner)
    # bfloat16 whole on each of two ranks; float32 gradients and 12 bytes of optimizer over both.
    assert learner.weights * 2**30 == pytest.approx(2 * billions * 1e9, rel=1e-6)
    assert learner.gradients * 2**30 == pytest.approx(4 * billions * 1e9 / 2, rel=1e-6)
    assert learner.optimizer * 2**30 == pytest.approx(12 * billions * 1e9 / 2, rel=1e-6)
    engine = skeleton("deepseek_r1_distill_qwen_1_5b_text").engine(recipe.rollout, 9216)
    # Keys and values of 28 layers, 2 heads of 128, bfloat16.
    assert engine.answer_cache * 2**30 == 2 * 28 * 2 * 128 * 2 * 9216
