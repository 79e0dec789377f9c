"""What is only shown, and what is refused before anything is started."""

import subprocess
import time

import pytest

from configs.load import RECIPES
from tests.e2e.command import Place

pytestmark = pytest.mark.e2e

SHIPPED = sorted(path.relative_to(RECIPES).with_suffix("") for path in RECIPES.rglob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED, ids=str)
def test_a_dry_run_shows_recipe_and_plan_and_starts_nothing(name: object, place: Place) -> None:
    words = [str(name), "--dry-run", "name=shown", f"log.folder={place.folder / 'runs'}"]
    said = place.finish(words, "shown")
    assert "name: shown" in said
    for role in ("rollout", "learner", "reward"):
        assert role in said
    assert "weights travel by" in said
    assert not place.run("shown").exists()


def test_a_run_on_gpus_that_are_not_there_is_refused_at_once(place: Place) -> None:
    began = time.monotonic()
    process = place.start(place.words("refused", "device=cuda"), "refused")
    try:
        assert process.wait(300) != 0
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    said = place.said("refused")
    assert "the recipe asks for 2 GPU" in said and "the cluster has 0" in said
    assert "lower rollout.workers" in said
    assert time.monotonic() - began < 120
    assert not place.processes()
    assert not place.run("refused").exists()
