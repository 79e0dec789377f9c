"""Adapters under real learners and a real engine: what is published is the merged policy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.weights import PolicySource
from tests.ray.system import (
    System,
    learned_from,
    mean_gap,
    problem,
    recipe,
    running_system,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [problem(1), problem(3, images=2), problem(4, images=0)]


@pytest.fixture(scope="module")
def adapted(
    cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    policy = {
        "path": str(vlm_folder),
        "dtype": "float32",
        "train": ["projector", "language"],
        "lora": {"rank": 4},
    }
    plan = recipe(vlm_folder, policy=policy, loss={"kl": {"coef": 0.0}})
    sharded = plan.learner.model_copy(update={"ranks": 2, "zero_stage": 3})
    plan = plan.model_copy(update={"learner": sharded})
    with running_system(plan, vlm_folder, tmp_path_factory.mktemp("adapted")) as system:
        yield system


def _names_of_next_round(learner: object) -> list[str]:
    source: PolicySource = learner._sender._source  # type: ignore
    return source.names()


def test_sharded_adapters_learn_and_engines_and_exports_get_them_merged(adapted: System) -> None:
    before = adapted.sample(PROBLEMS, temperature=0.0)
    groups = adapted.sample(PROBLEMS)
    assert mean_gap(adapted.gaps(groups)) < 1e-4
    for _ in range(3):
        report = adapted.learners.update(learned_from(groups))
        assert not report.skipped
    assert mean_gap(adapted.gaps(groups)) > 1e-3
    adapted.publish()
    after = adapted.sample(PROBLEMS, temperature=0.0)
    expected = adapted.greedy_by_transformers(PROBLEMS, tokens=24)
    assert [group.answers[0].token_ids for group in after] == expected
    assert [group.answers[0].token_ids for group in before] != expected
    assert mean_gap(adapted.gaps(adapted.sample(PROBLEMS))) < 1e-4


def test_only_what_adapters_and_the_projector_change_is_sent_again(adapted: System) -> None:
    names = adapted.in_learner(_names_of_next_round)
    projector = {name for name in names if "projector" in name}
    adapters = set(names) - projector
    assert projector and len(adapters) == 3 * 7
    assert all(name.endswith("_proj.weight") for name in adapters)


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
