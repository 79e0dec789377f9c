"""Other families than the laptop's own learn through the same code, with the real engines."""

from collections.abc import Iterator

import pytest

from tests.families import FAMILIES
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [
    problem(1, size=(56, 56)),
    problem(2, size=(150, 60)),
    problem(3, size=(40, 130)),
    problem(4, images=2, size=(90, 60)),
    problem(5, images=0),
]
"""With pictures of several shapes, several in one prompt, and none."""


@pytest.fixture(scope="module", params=["qwen2.5-vl", "llava"])
def family(
    request: pytest.FixtureRequest, cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("family")
    FAMILIES[request.param](folder)
    plan = recipe(folder, loss={"kl": {"coef": 0.0}})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def test_a_step_of_grpo_on_another_family_is_served_as_it_was_learned(family: System) -> None:
    before = family.sample(PROBLEMS, temperature=0.0)
    groups = family.sample(PROBLEMS)
    assert [g.prompt_ids for g in groups] == [family.encoder.encode(p) for p in PROBLEMS]
    assert mean_gap(family.gaps(groups)) < 1e-4
    report = family.learners.update(learned_from(groups))
    assert not report.skipped and report.metrics["logprob_gap"] < 1e-4
    family.publish()
    after = family.sample(PROBLEMS, temperature=0.0)
    expected = family.greedy_by_transformers(PROBLEMS, tokens=24)
    assert [group.answers[0].token_ids for group in after] == expected
    assert [group.answers[0].token_ids for group in before] != expected
    assert mean_gap(family.gaps(family.sample(PROBLEMS))) < 1e-4
