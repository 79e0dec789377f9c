"""A model put together from parts, its language model learning by adapters, under real learners
and a real engine: what is published is the merged policy.

Its encoder is not InternVL's own, and its language model not Qwen2's: those are what runs from the
command line put together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.weight_transfer.policy_source import PolicySource
from configs.jobs.assembly import AssembleOptions
from models.assembly.r1v import plan_assembly
from tests.ray.actors.rollout.served import check_a_step_is_served_as_it_was_learned
from tests.ray.system import System, learned_from, problem, recipe, running_system
from tests.unit.models.assembly.parts import build_llm, build_siglip

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [problem(1), problem(2, size=(120, 60)), problem(3, images=2), problem(4, images=0)]


@pytest.fixture(scope="module")
def adapted(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    parts = tmp_path_factory.mktemp("parts")
    build_siglip(parts / "eye")
    build_llm(parts / "llm", "qwen3", hidden_size=64, head_dim=32)
    folder = parts / "r1v"
    plan_assembly(parts / "eye", parts / "llm", AssembleOptions(max_tiles=4)).write(folder)
    policy = {
        "path": str(folder),
        "dtype": "float32",
        "trust_remote_code": True,
        "train": ["projector", "language"],
        "lora": {"rank": 4},
    }
    plan = recipe(
        folder,
        policy=policy,
        prompt={"max_tokens": 192, "max_images": 2},
        rollout={"max_new_tokens": 24, "max_num_seqs": 64, "enforce_eager": True},
        loss={"kl": {"coef": 0.0}},
    )
    sharded = plan.learner.model_copy(update={"ranks": 2, "zero_stage": 3})
    plan = plan.model_copy(update={"learner": sharded})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def _names_of_next_round(learner: object) -> list[str]:
    source: PolicySource = learner._sender._source  # type: ignore
    return source.names()


def _layers(learner: object) -> int:
    return learner._engine.policy.model.config.get_text_config().num_hidden_layers  # type: ignore


def test_sharded_adapters_learn_and_engines_and_exports_get_them_merged(adapted: System) -> None:
    check_a_step_is_served_as_it_was_learned(adapted, PROBLEMS, updates=3)


def test_only_what_adapters_and_the_projector_change_is_sent_again(adapted: System) -> None:
    names = adapted.in_learner(_names_of_next_round)
    projector = {name for name in names if "projector" in name}
    merged = {name for name in names if name.endswith("_proj.weight")}
    layers = adapted.in_learner(_layers)
    assert projector and len(merged) == 7 * layers
    # What lies in the same modules comes along: the norms of queries and keys.
    beside = set(names) - projector - merged
    assert len(beside) == 2 * layers
    assert all(name.endswith((".q_norm.weight", ".k_norm.weight")) for name in beside)


def test_learners_with_adapters_go_on_from_what_they_saved(adapted: System, tmp_path: Path) -> None:
    groups = adapted.sample(PROBLEMS)
    adapted.learners.save(tmp_path)
    rows = learned_from(groups)
    adapted.learners.update(rows)
    went_on = adapted.learners.logprobs(rows)
    adapted.learners.restore(tmp_path)
    assert adapted.learners.logprobs(rows) != went_on
    adapted.learners.update(rows)
    again = adapted.learners.logprobs(rows)
    assert all(again[i] == pytest.approx(went_on[i], abs=1e-6) for i in went_on)
