"""A GRPO run on text alone that loses a learner rank, then its driver, and goes on both times."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import read_recipe
from models.inputs.encoder import InputEncoder
from rl.jobs.prepare import open_problems
from tests.e2e.command import (
    OUTLIVED_S,
    PATIENCE_S,
    STEPS,
    Place,
    answers,
    asked,
    check_finished,
    kill_9,
    leaks,
    lines,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

SAVED = 2
"""Step of the checkpoint that the killed run goes on from."""


@dataclass(frozen=True)
class Resumed:
    """A run on text alone that lost a learner rank, then its driver, and went on both times."""

    run: Path
    said_before: str
    said: str
    """By the command that was given again."""
    before: list[dict[str, Any]]
    """Samples that the killed run had logged."""
    left: list[str]
    """Processes that outlived the killed driver."""


@pytest.fixture(scope="module")
def resumed(place: Place) -> Resumed:
    """Twice, when it has learned once more behind its checkpoint, something is killed: a learner
    rank, behind which the run goes on by itself; then the driver, and the job is given again."""
    run = place.run("cut")
    # So fast that two updates change most answers.
    fast = ("learner.optimizer.lr=0.01", "learner.optimizer.warmup_ratio=0")
    more = (f"checkpoint.every={SAVED}", "sample_buffer={}", "learner.ranks=2")
    words = [*place.words("cut", "digits_text", *more, *fast), "--resume-or-start"]
    process = place.start(words, "cut")

    def beyond(times: int) -> bool:
        told = re.findall(f"^step +{SAVED + 1}/{STEPS} +reward", place.said("cut"), re.MULTILINE)
        return process.poll() is not None or len(told) == times

    try:
        wait_until(lambda: beyond(1), PATIENCE_S, lambda: place.said("cut"))
        assert process.poll() is None, place.said("cut")
        _learner_ranks(process.pid)[-1].kill()
        wait_until(lambda: beyond(2), PATIENCE_S, lambda: place.said("cut"))
        assert process.poll() is None, place.said("cut")
    finally:
        kill_9(process)
    left = _left_after(OUTLIVED_S, place)
    before = lines(run / "samples.jsonl")
    half = run / "checkpoints" / ".writing_step_000009"
    half.mkdir()
    saved = [path.name for path in run.glob("checkpoints/step_*")]
    assert saved == [f"step_{SAVED:06d}"], place.said("cut")
    said = place.finish(words, "resumed")
    return Resumed(run, place.said("cut"), said, before, left)


def _learner_ranks(driver: int) -> list[psutil.Process]:
    below = psutil.Process(driver).children(recursive=True)
    return [process for process in below if "LearnerRank" in " ".join(process.cmdline())]


def _left_after(patience_s: float, place: Place) -> list[str]:
    try:
        wait_until(lambda: not place.processes(), patience_s)
    except AssertionError:
        return [str(process) for process in place.processes()]
    return []


def test_a_killed_driver_leaves_no_process_behind(resumed: Resumed) -> None:
    assert not resumed.left


def test_a_run_that_loses_a_learner_rank_goes_on_from_its_checkpoint_by_itself(
    resumed: Resumed,
) -> None:
    assert "learner rank" in resumed.said_before and " died. " in resumed.said_before
    assert "starting all actors again, from" in resumed.said_before
    assert f"step_{SAVED:06d} (1 of learner.restarts=3)" in resumed.said_before
    assert f"going on from step {SAVED}" in resumed.said_before


def test_whatever_was_killed_each_answer_counts_once(resumed: Resumed) -> None:
    after = lines(resumed.run / "samples.jsonl")
    assert {sample["step"] for sample in after} == set(range(STEPS))
    for samples in (resumed.before, after):
        counted = Counter((s["step"], s["problem"], s["sample"]) for s in samples)
        assert set(counted.values()) == {1}
        steps = {s["step"] for s in samples}
        assert len(counted) == len(steps) * 4 * 4  # problems a step, answers a problem


def test_a_resumed_run_asks_what_it_would_have_asked(
    resumed: Resumed, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1V_CACHE", str(place.cache))
    assert f"going on from step {SAVED}" in resumed.said
    assert ".writing_step_000009" in resumed.said and "passing over" in resumed.said
    check_finished(resumed.run, syncs=STEPS - SAVED + 1)
    recipe = read_recipe(resumed.run / "recipe.yaml", GRPORecipe)
    saved = resumed.run / "checkpoints" / f"step_{SAVED:06d}" / "policy"
    encoder = InputEncoder(saved, recipe.prompt, False)
    problems, _ = open_problems(recipe, encoder.measure, resumed.run / "again")
    size = recipe.problems_per_step
    wanted = {step: [one.id for one in problems.cursor.take(size)] for step in range(STEPS)}
    assert asked(lines(resumed.run / "samples.jsonl")) == wanted
    assert asked(resumed.before).items() <= wanted.items()


def test_answers_that_teach_something_are_kept_in_checkpoints(resumed: Resumed) -> None:
    for step in (SAVED, STEPS):
        folder = resumed.run / "checkpoints" / f"step_{step:06d}"
        kept = lines(folder / "sample_buffer.jsonl")
        taught = [s for s in lines(resumed.run / "samples.jsonl") if s["step"] < step]
        useful = [s for s in taught if s["advantage"]]
        assert len(kept) == len(useful)
        assert {line["step"] for line in kept} == {line["step"] for line in useful}


def test_a_resumed_run_goes_on_with_the_weights_that_were_saved(resumed: Resumed) -> None:
    after = lines(resumed.run / "samples.jsonl")
    expected, said = (answers(samples, SAVED) for samples in (resumed.before, after))
    same = sum(ours == theirs for ours, theirs in zip(said, expected, strict=True))
    assert same >= 0.75 * len(expected)
    learned = lines(resumed.run / "metrics.jsonl")[:SAVED]
    assert any("grad_norm" in line for line in learned), "the start policy would say the same"


def test_a_text_only_policy_is_trained_by_the_same_command(resumed: Resumed) -> None:
    assert not any(line["images"] for line in lines(resumed.run / "samples.jsonl"))
    folder = resumed.run / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size


def test_no_secret_of_the_environment_is_written_anywhere(resumed: Resumed, place: Place) -> None:
    assert not leaks(place, resumed.run)
