"""A model that was put together from parts is served as it is learned.

Its encoder is not InternVL's own, and its language model not Qwen2's: those are what runs from the
command line put together."""

from collections.abc import Iterator

import pytest

from configs.assembly import AssembleOptions
from models.r1v import assemble
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system
from tests.unit.parts import build_llm, build_siglip

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [problem(1), problem(2, size=(120, 60)), problem(3, images=2), problem(4, images=0)]


@pytest.fixture(scope="module")
def assembled(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    parts = tmp_path_factory.mktemp("parts")
    build_siglip(parts / "eye")
    build_llm(parts / "llm", "qwen3", hidden_size=64, head_dim=32)
    folder = parts / "r1v"
    assemble(parts / "eye", parts / "llm", folder, options=AssembleOptions(max_tiles=4))
    plan = recipe(
        folder,
        policy={"path": str(folder), "dtype": "float32", "trust_remote_code": True},
        prompt={"max_tokens": 192, "max_images": 2},
        rollout={"max_new_tokens": 24, "max_running": 64, "eager": True},
        loss={"kl": {"coef": 0.0}},
    )
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def test_a_step_on_an_assembled_model_is_served_as_it_was_learned(assembled: System) -> None:
    groups = assembled.sample(PROBLEMS)
    assert [g.prompt_ids for g in groups] == [assembled.encoder.encode(p) for p in PROBLEMS]
    assert mean_gap(assembled.gaps(groups)) < 1e-4
    before = assembled.sample(PROBLEMS, temperature=0.0)
    assert not assembled.learners.update(learned_from(groups)).skipped
    assembled.publish()
    assert mean_gap(assembled.gaps(assembled.sample(PROBLEMS))) < 1e-4
    assert mean_gap(assembled.gaps(before)) > 1e-3
