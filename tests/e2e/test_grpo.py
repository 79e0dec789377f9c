"""GRPO from the command line: as a job of a cluster; and on text alone, killed and resumed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import read_recipe
from models.inputs.encoder import InputEncoder
from rl.data.problems import ProblemSet
from tests.e2e.command import (
    OUTLIVED_S,
    PATIENCE_S,
    Place,
    answers,
    asked,
    kill_9,
    lines,
)
from tests.e2e.head import ray_head
from tests.ray.chats import chat_file
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 4
SAVED = 2
"""Step of the checkpoint that the killed run goes on from."""
TAUGHT = (
    "loss={kind: mixed, distill: {top_k: 8}}",
    "teacher={context: '{question} The answer is {answer}.'}",
)
"""The policy that started the run is a teacher beside the rewards, and is told the answers."""
SUMMARY = {
    "accuracy_before",
    "accuracy_after",
    "mean_length_before",
    "mean_length_after",
    "think_share_before",
    "think_share_after",
    "steps",
    "grpo_seconds",
    "rollout_tokens_per_s",
    "max_logprob_gap",
    "syncs_verified",
}


@dataclass(frozen=True)
class Job:
    """What a submitted run left."""

    run: Path
    said: str
    figures: set[str]
    """Names of all series that the head's Prometheus endpoint showed."""
    uploaded: list[str]


@pytest.fixture(scope="module")
def whole(place: Place) -> Iterator[Job]:
    """A run that nothing disturbs, submitted to a head of its own."""
    figures: set[str] = set()
    with ray_head(place) as head:
        process = head.submit("grpo.py", place.words("whole", *TAUGHT), place)

        def ended() -> bool:
            names = {line.split("{")[0] for line in head.figures().splitlines()}
            figures.update(name for name in names if not name.startswith("#"))
            return process.poll() is not None

        try:
            wait_until(ended, PATIENCE_S, lambda: place.said("grpo.py"), every_s=1.0)
        finally:
            process.kill()
        said, uploaded = place.said("grpo.py"), head.uploaded()
        assert process.returncode == 0, said
        tuning = head.submit("sft.py", supervised(place), place)
        try:
            assert tuning.wait(PATIENCE_S) == 0, place.said("sft.py")
        finally:
            tuning.kill()
    yield Job(place.run("whole"), said, figures, uploaded)


def supervised(place: Place) -> list[str]:
    """The words of a supervised run that goes on from what the GRPO run left."""
    chats = chat_file(place.folder, 8)
    policy = place.run("whole") / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    return [
        "digits_sft",
        "name=tuned",
        f"policy.path={policy}",
        f"data={{source: {chats}}}",
        "evaluation.data=null",
        "prompt={max_tokens: 128, max_images: 2}",
        "batch_size=4",
        "steps=2",
        f"log={{folder: {place.folder / 'runs'}, wandb: false}}",
    ]


@dataclass(frozen=True)
class Resumed:
    """A run on text alone that was killed and went on."""

    run: Path
    said: str
    before: list[dict[str, Any]]
    """Samples that the killed run had logged."""
    left: list[str]
    """Processes that outlived the killed driver."""


@pytest.fixture(scope="module")
def resumed(place: Place) -> Resumed:
    """Killed when it had learned once more behind its checkpoint, and then resumed."""
    run = place.run("cut")
    # So fast that two updates change most answers.
    fast = ("learner.optimizer.lr=0.01", "learner.optimizer.warmup_ratio=0")
    words = place.words(
        "cut", "digits_text", f"checkpoint.every={SAVED}", "sample_buffer={}", *fast
    )
    process = place.start(words, "cut")
    metrics = run / "metrics.jsonl"
    try:
        wait_until(
            lambda: process.poll() is not None or _steps(metrics) > SAVED,
            PATIENCE_S,
            lambda: place.said("cut"),
        )
    finally:
        kill_9(process)
    left = _left_after(OUTLIVED_S, place)
    assert _steps(metrics) > SAVED, place.said("cut")
    before = lines(run / "samples.jsonl")
    half = run / "checkpoints" / ".writing_step_000009"
    half.mkdir()
    saved = [path.name for path in run.glob("checkpoints/step_*")]
    assert saved == [f"step_{SAVED:06d}"], place.said("cut")
    said = place.finish([*words, "--resume"], "resumed")
    return Resumed(run, said, before, left)


def _steps(metrics: Path) -> int:
    return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0


def _left_after(patience_s: float, place: Place) -> list[str]:
    try:
        wait_until(lambda: not place.processes(), patience_s)
    except AssertionError:
        return [str(process) for process in place.processes()]
    return []


def check_finished(run: Path, syncs: int) -> None:
    """Each step told once, all figures of the summary, a picture and a last checkpoint."""
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == list(range(STEPS))
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary.keys() >= SUMMARY
    assert summary["steps"] == STEPS and summary["skipped_updates"] == 0
    assert summary["syncs_verified"] == syncs
    assert 0 < summary["max_logprob_gap"] < 1e-4
    assert (run / "plot.png").stat().st_size > 1000
    kept = len(lines(run / "samples.jsonl"))
    assert f'"samples": {kept},' in (run / "report" / "run.js").read_text("utf-8")
    assert [line["step"] for line in lines(run / "evaluations.jsonl")] == [0, STEPS]
    assert sorted(path.name for path in run.glob("checkpoints/*"))[-1] == f"step_{STEPS:06d}"


def test_a_submitted_job_runs_to_its_end(whole: Job) -> None:
    assert "succeeded" in whole.said
    check_finished(whole.run, syncs=STEPS + 1)
    updated = [line for line in lines(whole.run / "metrics.jsonl") if "grad_norm" in line]
    assert updated, "no step had anything to learn from"
    assert {line["version"] for line in lines(whole.run / "samples.jsonl")} == set(range(STEPS))


def test_each_token_is_told_with_what_sampler_and_learner_say_of_it(whole: Job) -> None:
    for line in lines(whole.run / "samples.jsonl"):
        told = line["by_token"]
        assert {len(values) for values in told.values()} == {line["tokens"]}
        assert max(map(abs, told["gap"])) < 1e-3 and min(told["entropy"]) >= 0


def test_a_teacher_that_knows_the_answers_says_something_of_each_token(whole: Job) -> None:
    steps = lines(whole.run / "metrics.jsonl")
    assert all(0 < step["teacher_kl"] < 10 for step in steps)
    assert all(step["useful_groups"] == 1 for step in steps)


def test_only_the_project_is_uploaded_with_a_job(whole: Job) -> None:
    assert {"rl", "actors", "configs"} <= set(whole.uploaded)
    assert not {".venv", "runs", ".git"} & set(whole.uploaded)


def test_a_supervised_job_is_submitted_in_the_same_way(whole: Job) -> None:
    tuned = whole.run.with_name("tuned")
    assert json.loads((tuned / "summary.json").read_text("utf-8"))["steps"] == 2
    AutoModelForImageTextToText.from_pretrained(tuned / "policy")


def test_prometheus_sees_reward_and_rollout(whole: Job) -> None:
    wanted = {"ray_r1v_reward", "ray_r1v_rollout_tokens_per_s", "ray_r1v_accuracy"}
    assert wanted <= whole.figures
    assert any(name.startswith("ray_reward_verdicts") for name in whole.figures)


def test_the_recipe_in_a_run_folder_is_the_one_that_ran(whole: Job) -> None:
    recipe = read_recipe(whole.run / "recipe.yaml", GRPORecipe)
    assert recipe.steps == STEPS and recipe.run_folder == whole.run


def test_a_killed_driver_leaves_no_process_behind(resumed: Resumed) -> None:
    assert not resumed.left


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
    problems = ProblemSet.open(
        recipe.data,
        measure=encoder.measure,
        max_tokens=recipe.prompt.max_tokens,
        rejected=resumed.run / "again.jsonl",
        seed=recipe.seed,
    )
    size = recipe.problems_per_step
    wanted = {step: [one.id for one in problems.take(size, step=step)] for step in range(STEPS)}
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


def test_a_checkpoints_policy_loads_in_transformers(whole: Job) -> None:
    folder = whole.run / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model, faults = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not faults["missing_keys"] and not faults["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(folder)
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


def test_a_text_only_policy_is_trained_by_the_same_command(resumed: Resumed) -> None:
    assert not any(line["images"] for line in lines(resumed.run / "samples.jsonl"))
    folder = resumed.run / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size
