"""Engines that read what is kept of images answer as they do by pixels, and run no tower for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.grpo import train
from rl.algorithms.interfaces import GRPOParts
from rl.algorithms.parity import parity_rows
from rl.data.order import FileOrder
from rl.data.records import Group, Problem
from rl.data.training_problems import ProblemCursor
from rl.run_log.writer import RunLog
from rl.storage.jsonl import read_lines
from tests.ray.system import System, mean_gap, problem, recipe, running_system
from tests.vision_families import build_tiled_internvl

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ONE_TILE, WIDE, TWO_TALL = problem(1), problem(2, size=(150, 50)), problem(3, 2, (50, 160))
ASKED = [ONE_TILE, WIDE, TWO_TALL]
LENGTH = 48
EPOCH, A_STEP = [problem(10 + wide, size=(56 * wide, 56)) for wide in (1, 2, 3, 4)], 2


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> GRPORecipe:
    folder = tmp_path_factory.mktemp("tiled")
    build_tiled_internvl(folder)
    fields = recipe(folder).model_dump(exclude_unset=True)
    return recipe(
        folder,
        steps=2 * len(EPOCH) // A_STEP,
        problems_per_step=A_STEP,
        policy=fields["policy"] | {"train": ["language"]},
        prompt={"max_tokens": 200, "max_images": 2},
        features={"keep": "disk", "folder": tmp_path_factory.mktemp("features")},
        # So many that some end by themselves: a group whose answers are all cut off teaches
        # nothing, and nobody reads its picture.
        rollout={"group_size": 16, "max_new_tokens": LENGTH, "enforce_eager": True},
        # Untrained policies have nothing right, but some answers are shorter than others.
        reward={"weights": {"length": 1.0}, "accuracy": "length", "overlong_tokens": LENGTH},
        loss={"kl": {"coef": 0.0}},
        # Adam's first steps are as long where a gradient is nothing but rounding.
        learner=fields["learner"] | {"optimizer": {"lr": 1e-7}},
        log={"wandb": False, "report": False},
    )


@pytest.fixture(scope="module")
def own(
    cluster: None, plan: GRPORecipe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    spare = tmp_path_factory.mktemp("system")
    with running_system(plan, Path(plan.policy.path), spare) as system:
        system.in_engine("count_tower_calls")
        yield system


@pytest.fixture
def by_pixels(own: System) -> Iterator[System]:
    """The same system, its engine given pixels alone."""
    kept = own.rollouts.kept
    assert kept is not None
    own.rollouts.kept = None
    yield own
    own.rollouts.kept = kept


def answers(own: System, asked: list[Problem]) -> list[Group]:
    """To each problem the likeliest answer, and a group of four."""
    return [*own.sample(asked, temperature=0.0), *own.sample(asked)]


def tower_calls(own: System) -> int:
    return own.in_engine("counted_tower_calls")


def test_answers_by_what_is_kept_are_those_by_pixels_and_need_no_tower(by_pixels: System) -> None:
    own = by_pixels
    seen = answers(own, ASKED)
    assert {group.embedded_images for group in seen} == {None}
    before = tower_calls(own)
    assert before > 0
    own.rollouts.kept = own.learners.kept_embeddings()
    own.learners.logprobs(parity_rows(seen))  # reads the pictures, and keeps what it makes of them
    embedded = answers(own, ASKED)
    assert [group.embedded_images for group in embedded] == 2 * [1, 1, 2]
    assert tower_calls(own) == before
    assert len({len(group.prompt_ids) for group in embedded}) > 1, "pictures of some tiles"
    for pixels, kept in zip(seen, embedded, strict=True):
        assert kept.prompt_ids == pixels.prompt_ids
        for ours, theirs in zip(kept.answers, pixels.answers, strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert mean_gap(own.gaps(embedded)) < 1e-5


def test_a_prompt_with_a_picture_that_is_not_kept_yet_goes_as_pixels(own: System) -> None:
    known = own.sample([ONE_TILE])
    own.learners.logprobs(parity_rows(known))
    before = tower_calls(own)
    new = problem(77).images[0]
    mixed = replace(ONE_TILE, id="mixed", images=(*ONE_TILE.images, new))
    asked = [mixed, ONE_TILE, replace(ONE_TILE, id="new", images=(new,))]
    assert [group.embedded_images for group in own.sample(asked)] == [0, 1, 0]
    assert tower_calls(own) > before


def run(own: System, plan: GRPORecipe, folder: Path) -> list[dict[str, Any]]:
    """The metrics of two epochs, from the start policy."""
    own.learners.restore(own._start)
    own.actors.weights.sync(0)
    problems = ProblemCursor(FileOrder(len(EPOCH)), lambda places: [EPOCH[i] for i in places])
    with RunLog(folder, plan) as log:
        parts = GRPOParts(
            problems,
            own.rollouts,
            own.learners,
            weights=own.actors.weights,
            evaluate=None,
            log=log,
            save=lambda step: None,
            best=BestPolicy(plan.checkpoint.keep_best),
            token_texts=lambda ids: [str(i) for i in ids],
        )
        train(plan, parts)
    return list(read_lines(folder / "metrics.jsonl"))


def test_from_the_second_epoch_on_a_run_needs_no_tower_and_has_the_same_rewards(
    own: System, plan: GRPORecipe, tmp_path: Path
) -> None:
    embedded = run(own, plan, tmp_path / "embedded")
    assert [line["embedded_images"] for line in embedded] == [0.0, 0.0, 1.0, 1.0]
    assert {line["useful_groups"] for line in embedded} == {1.0}
    assert embedded[-1]["logprob_gap"] < 1e-5
    own.rollouts.kept = None
    pixels = run(own, plan, tmp_path / "pixels")
    assert all("embedded_images" not in line for line in pixels)
    for with_, without in zip(embedded, pixels, strict=True):
        assert with_["reward"] == pytest.approx(without["reward"], abs=1e-6)
