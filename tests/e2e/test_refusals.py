"""What is only shown, and what is refused before anything is started."""

import subprocess
import time

import pytest

from tests.e2e.command import Place

pytestmark = pytest.mark.e2e


def test_a_dry_run_shows_recipe_and_plan_and_starts_nothing(place: Place) -> None:
    said = place.finish(place.words("shown", "--dry-run"), "shown")
    assert "name: shown" in said and "weights travel by" in said
    assert not place.run("shown").exists()


def test_data_that_is_not_there_is_refused_without_a_traceback(place: Place) -> None:
    process = place.start(place.words("lost", "evaluation.data.source=nowhere/test.jsonl"), "lost")
    assert process.wait(300) == 1
    said = place.said("lost")
    assert "'nowhere/test.jsonl' does not exist" in said and "correct the path" in said
    assert "Traceback" not in said


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
