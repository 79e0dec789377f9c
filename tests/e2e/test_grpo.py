"""GRPO from the command line: as a job of a cluster, killed and resumed, and on text alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from configs.load import read_recipe
from configs.schema import GRPORecipe
from tests.e2e.command import PATIENCE_S, Place, answers, asked, kill_9, lines, wait_until
from tests.e2e.head import ray_head
from tests.ray.chats import chat_file

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 4
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
        process = head.submit("grpo.py", place.words("whole"), place)

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
        "batch=4",
        "steps=2",
        f"log={{folder: {place.folder / 'runs'}, wandb: false}}",
    ]


@dataclass(frozen=True)
class Resumed:
    """A run that was killed and went on."""

    run: Path
    said: str
    saved: int
    """Step of the checkpoint that it went on from."""
    left: list[str]
    """Processes that outlived the killed driver."""


@pytest.fixture(scope="module")
def resumed(place: Place, whole: Job) -> Resumed:
    """The same run under another name, killed behind its second checkpoint, then resumed."""
    run = place.run("cut")
    process = place.start(place.words("cut"), "cut")
    try:
        second = run / "checkpoints" / "step_000002"
        wait_until(
            lambda: second.is_dir() or process.poll() is not None,
            PATIENCE_S,
            lambda: place.said("cut"),
        )
    finally:
        kill_9(process)
    left = _left_after(60, place)
    half = run / "checkpoints" / ".writing_step_000009"
    half.mkdir(exist_ok=True)
    saved = max(int(path.name[5:]) for path in run.glob("checkpoints/step_*"))
    assert 2 <= saved < STEPS
    said = place.finish(place.words("cut", "--resume"), "resumed")
    return Resumed(run, said, saved, left)


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
    assert [line["step"] for line in lines(run / "evaluations.jsonl")] == [0, STEPS]
    assert sorted(path.name for path in run.glob("checkpoints/*"))[-1] == f"step_{STEPS:06d}"


def policy_weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step_{step:06d}" / "policy" / "model.safetensors")


def test_a_submitted_job_runs_to_its_end(whole: Job) -> None:
    assert "succeeded" in whole.said
    check_finished(whole.run, syncs=STEPS + 1)
    updated = [line for line in lines(whole.run / "metrics.jsonl") if "grad_norm" in line]
    assert updated, "no step had anything to learn from"
    assert {line["version"] for line in lines(whole.run / "samples.jsonl")} == set(range(STEPS))


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


def test_a_resumed_run_asks_what_an_undisturbed_one_asks(resumed: Resumed, whole: Job) -> None:
    assert f"going on from step {resumed.saved}" in resumed.said
    assert ".writing_step_000009" in resumed.said and "passing over" in resumed.said
    check_finished(resumed.run, syncs=STEPS - resumed.saved + 1)
    assert asked(resumed.run) == asked(whole.run)
    assert sum(map(len, asked(resumed.run).values())) == 4 * STEPS


def test_a_resumed_run_goes_on_with_the_weights_that_were_saved(
    resumed: Resumed, whole: Job
) -> None:
    said, expected = (answers(run, resumed.saved) for run in (resumed.run, whole.run))
    same = sum(ours == theirs for ours, theirs in zip(said, expected, strict=True))
    assert same >= 0.75 * len(expected)
    last, other = policy_weights(resumed.run, STEPS), policy_weights(whole.run, STEPS)
    start = policy_weights(whole.run, STEPS - 1)
    apart = max((last[name] - other[name]).abs().max().item() for name in last)
    moved = max((start[name] - other[name]).abs().max().item() for name in last)
    assert apart < moved


def test_a_checkpoints_policy_loads_in_transformers(whole: Job) -> None:
    folder = whole.run / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model, faults = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not faults["missing_keys"] and not faults["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(folder)
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


@pytest.fixture(scope="module")
def text(place: Place) -> Path:
    place.finish(place.words("text", "digits_text"), "text")
    return place.run("text")


def test_a_text_only_policy_is_trained_by_the_same_command(text: Path) -> None:
    check_finished(text, syncs=STEPS + 1)
    assert not any(line["images"] for line in lines(text / "samples.jsonl"))
    folder = text / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size
