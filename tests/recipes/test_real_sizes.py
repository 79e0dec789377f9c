"""Recipes of real sizes fit the machines that they state, told on meta tensors."""

import re
from functools import cache
from typing import Any

import pytest

from actors.cluster.plan import Recipe
from configs.jobs.evaluate import EvaluateRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.pipeline import PipelineRecipe
from configs.jobs.rounds import PAPER_ROUNDS
from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.loading.recipe import RECIPES, find_recipe, read_recipe
from models.policy.memory import MemoryEstimator
from rl.console.errors import DoesNotFit
from rl.console.progress import CONSOLE
from rl.plan import main
from rl.planning.changes import changed
from rl.planning.check import PlannedRun, nearest_change, planned_run
from rl.planning.machine import Machine
from rl.planning.memory import estimator
from rl.planning.recipes import for_gpus, read
from tests.recipes.architectures import CARDS
from tests.recipes.test_recipes import SHIPPED

GPUS = {
    "r1v_38b/align": 64,
    "r1v_38b/sft": 64,
    "r1v_38b/grpo": 64,
    "r1v_38b/grpo_four_nodes": 32,
    "r1v_38b/grpo_one_node": 8,
    "r1v_38b/grpo_long": 64,
    "r1v_38b/evaluate": 8,
    "qwen2_5_vl_7b_geometry3k": 8,
    "qwen2_5_vl_3b_one_gpu": 1,
    "internvl3_8b": 8,
    "deepseek_r1_distill_qwen_1_5b_text": 8,
}
WHOLE = "r1v_38b/pipeline"
"""All stages of R1V in one recipe."""


def grpo(name: str) -> GRPORecipe:
    return read_recipe(find_recipe(name), GRPORecipe)


@cache
def recipe_of(name: str) -> Recipe:
    return read(find_recipe(name))


def skeleton(name: str) -> MemoryEstimator:
    found = estimator(recipe_of(name).policy)
    assert found is not None, "its architecture is known"
    return found


def on_its_machine(recipe: Recipe) -> PlannedRun:
    return planned_run(recipe, Machine.of_recipe(recipe))


@pytest.mark.parametrize("name", GPUS)
def test_an_architecture_has_the_parameters_that_its_card_says(name: str) -> None:
    sizes = skeleton(name).sizes
    lora = getattr(recipe_of(name).policy, "lora", None)
    adapters = 0.12e9 if lora else 0.0  # rank 64 on every linear layer
    assert sum(sizes.values()) - adapters == pytest.approx(CARDS[name].billions * 1e9, rel=5e-3)


def test_r1v_learns_by_the_projector_of_the_paper() -> None:
    # LayerNorm(12800), Linear(12800, 5120), Linear(5120, 5120), all with bias.
    by_hand = 2 * 12800 + (12800 + 1) * 5120 + (5120 + 1) * 5120
    for name in ("r1v_38b/align", "r1v_38b/sft", "r1v_38b/grpo", "r1v_38b/grpo_long"):
        assert skeleton(name).learning == skeleton(name).sizes["projector"] == by_hand


@pytest.mark.parametrize("name", GPUS)
def test_a_recipe_fits_the_machine_that_it_states_and_reserves_all_of_its_gpus(name: str) -> None:
    recipe = recipe_of(name)
    run = on_its_machine(recipe)
    assert run.faults == ()
    assert None not in (run.memory, run.dealt, run.machine.gpu_gib, run.machine.host_gib)
    reserved = sum(actors.count * actors.gpus for actors in run.plan.actors)
    stated = recipe.cluster.nodes * (recipe.cluster.gpus_per_node or 0)
    assert reserved == stated == GPUS[name]


@pytest.mark.parametrize(
    "name", [name for name in GPUS if name not in ("r1v_38b/align", "r1v_38b/sft")]
)
def test_an_engine_has_room_for_many_answers_of_full_length(name: str) -> None:
    recipe: Any = recipe_of(name)
    (engine,) = [held for held in on_its_machine(recipe).memory.gpus if held.who == "engine"]
    longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
    answer = skeleton(name).engine(recipe.rollout, longest).answer_cache
    assert engine.parts["KV cache"] > 16 * answer


@pytest.mark.parametrize("name", GPUS)
def test_the_largest_picture_leaves_room_for_the_question(name: str) -> None:
    assert CARDS[name].image_tokens + 500 < recipe_of(name).prompt.max_tokens


@pytest.mark.parametrize(
    ("name", "changes", "reason", "fits"),
    [
        # Half of the GPUs: 3 ranks still hold the policy, 2 would not.
        (
            "internvl3_8b",
            {"cluster.gpus_per_node": 4},
            "asks for 8 GPU",
            {"rollout.workers", "learner.ranks"},
        ),
        # Weights, gradients and optimizer whole on each rank are 140 GiB.
        (
            "internvl3_8b",
            {"learner.zero_stage": 0},
            "a learner rank needs about",
            {"learner.zero_stage"},
        ),
        # 38B whole on one GPU.
        (
            "r1v_38b/grpo",
            {"loss.kl.coef": 0.1, "learner.ranks": 31, "reference.place": "actor"},
            "a reference needs about 89 GiB",
            {"reference.place"},
        ),
        # Rows of 64k tokens of a policy that learns whole: each rank of a row keeps half of it.
        (
            "r1v_38b/grpo_long",
            {"policy.train": ["projector", "language"], "learner.sequence_parallel_size": 1},
            "a learner rank needs about",
            {"learner.sequence_parallel_size"},
        ),
        # A reference of its own reads whole rows on one GPU, whose ranks share them.
        (
            "r1v_38b/grpo_long",
            {"loss.kl.coef": 0.1, "learner.ranks": 28, "reference.place": "actor"},
            "a reference needs about 124 GiB",
            {"reference.place"},
        ),
        # 40 attention heads.
        (
            "r1v_38b/grpo_long",
            {"learner.sequence_parallel_size": 16},
            "learner.sequence_parallel_size=16 does not divide the policy's 40",
            {"learner.sequence_parallel_size"},
        ),
        # 72 GiB of weights in one GPU's share of 67.
        (
            "r1v_38b/grpo",
            {"rollout.tensor_parallel_size": 1},
            "an engine needs 75.5 GiB of each GPU",
            {"rollout.tensor_parallel_size", "rollout.workers"},
        ),
        # An engine takes most of the GPU; smaller chunks of logits leave enough.
        (
            "qwen2_5_vl_3b_one_gpu",
            {
                "cluster.gpu_memory_gib": 42,
                "rollout.gpu_memory_utilization": 0.6,
                "sync.sleep": False,
            },
            "a GPU of 42 GiB, beside an engine, has 17",
            {"rollout.gpu_memory_utilization"},
        ),
        (
            "qwen2_5_vl_7b_geometry3k",
            {"prompt.max_pixels": 2_000_000},
            "takes 2,553 tokens",
            {"prompt.max_pixels"},
        ),
        ("internvl3_8b", {"cluster.cpus_per_node": 14}, "asks for 16 CPU", {"reward.processes"}),
        (
            "internvl3_8b",
            {"learner.offload": True, "cluster.memory_per_node_gib": 128},
            "on its host",
            {"learner.offload"},
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_change_that_does(
    name: str, changes: dict[str, Any], reason: str, fits: set[str]
) -> None:
    run = on_its_machine(changed(recipe_of(name), changes))
    with pytest.raises(DoesNotFit, match=re.escape(reason)) as refused:
        run.refuse_what_does_not_fit()
    change = nearest_change(run)
    assert change is not None and set(change) == fits, str(refused.value)
    assert not on_its_machine(changed(run.recipe, change)).faults


def test_the_command_prints_the_tables_of_all_recipes_for_gpus() -> None:
    with CONSOLE.capture() as captured:
        main([])
    told = captured.get()
    assert set(for_gpus()) == set(GPUS)
    assert all(name in told for name in GPUS)
    assert told.count("GiB of a GPU") == told.count("GiB of the fullest host") == len(GPUS)
    assert told.count("fits 8 node(s) with 64 GPUs") == 4


def test_the_command_ends_with_what_does_not_fit() -> None:
    with CONSOLE.capture(), pytest.raises(SystemExit, match=r"internvl3_8b: .*nearest change"):
        main(["internvl3_8b", "learner.zero_stage=0"])


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
    path = {"policy.path": grpo("r1v_38b/grpo").policy.path, "device": "cuda"}
    stated = single.cluster.model_dump()
    assert not on_its_machine(changed(whole.distill, {**path, "cluster": stated})).faults


def test_recipes_for_fewer_gpus_learn_what_the_paper_s_learns() -> None:
    paper = grpo("r1v_38b/grpo")
    counted = {"rollout": {"workers", "gpu_memory_utilization"}, "learner": {"ranks"}}
    for name in ("r1v_38b/grpo_one_node", "r1v_38b/grpo_four_nodes"):
        own = grpo(name)
        for section in ("rollout", "learner", "loss", "prompt", "policy", "data", "checkpoint"):
            fewer = counted.get(section, set())
            theirs, ours = (getattr(one, section).model_dump(exclude=fewer) for one in (paper, own))
            assert ours == theirs, section
        assert own.reward.weights == paper.reward.weights
        assert (own.steps, own.problems_per_step) == (paper.steps, paper.problems_per_step)


def test_engines_beside_ranks_fit_two_nodes_and_no_engine_crosses_nodes() -> None:
    two = {"cluster.nodes": 2, "rollout.workers": 4, "learner.ranks": 16}
    four = recipe_of("r1v_38b/grpo_four_nodes")
    assert not on_its_machine(changed(four, two)).faults
    wide = {"cluster.gpus_per_node": 4, "cluster.nodes": 4, "rollout.tensor_parallel_size": 8}
    run = on_its_machine(changed(four, two | wide | {"rollout.workers": 2}))
    with pytest.raises(DoesNotFit) as refused:
        run.refuse_what_does_not_fit()
    assert "2 (8 learner + 1 rollout) of 8 GPU and 9 CPU on one node" in str(refused.value)
    change = nearest_change(run)
    assert change == {"rollout.tensor_parallel_size": 4, "rollout.workers": 4}


def _in_short(run: PlannedRun) -> str:
    """What a recipe says of its plan."""
    assert run.memory is not None
    told: list[str] = []
    for held in run.memory.gpus:
        if held.who == "learner rank":
            told.append(f"{held.total:.0f} GiB of a learner's GPU")
        if held.who == "engine":
            told.append(f"{held.parts['weights']:.0f} GiB of an engine's GPU for weights")
    return "; ".join([*told, f"{sum(run.host.values()):.0f} GiB of the fullest host"])


@pytest.mark.parametrize("name", GPUS)
def test_a_recipe_says_what_its_plan_says_and_what_others_published(name: str) -> None:
    text = find_recipe(name).read_text("utf-8")
    assert f"# Plan: {_in_short(on_its_machine(recipe_of(name)))}.\n" in text
    assert "\n# Published" in text


def test_every_recipe_for_gpus_is_looked_at() -> None:
    shipped = {path.relative_to(RECIPES).with_suffix("").as_posix() for path in SHIPPED}
    on_gpus = {name for name in shipped if "device: cuda" in find_recipe(name).read_text()}
    assert on_gpus == {*GPUS, WHOLE}
    assert CARDS.keys() == GPUS.keys()


def test_a_width_that_does_not_divide_the_heads_is_refused() -> None:
    wide = grpo("r1v_38b/grpo").rollout.model_copy(update={"tensor_parallel_size": 16})
    with pytest.raises(DoesNotFit, match=r"40 attention heads and 8 key heads.*\[1, 2, 4, 8\]"):
        skeleton("r1v_38b/grpo").engine(wide, 16_384)
