"""GRPO from the command line, as a job of a cluster."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import read_recipe
from rl.monitoring.metrics import METRICS
from tests.e2e.command import PATIENCE_S, STEPS, Place, check_finished, leaks, lines
from tests.e2e.head import ray_head
from tests.e2e.prometheus import watching
from tests.ray.chats import chat_file
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

TAUGHT = (
    "loss={kind: mixed, distill: {top_k: 8}}",
    "teacher={context: '{question} The answer is {answer}.'}",
)
"""The policy that started the run is a teacher beside the rewards, and is told the answers."""
TRACED = ("learner.profile={step: 2}", "learner.peak_tflops=1")


@dataclass(frozen=True)
class Job:
    """What a submitted run left."""

    run: Path
    said: str
    figures: set[str]
    """Names of all series that the head's Prometheus endpoint showed."""
    uploaded: list[str]
    actors: dict[str, str]
    """Names of the actors while it ran, and what Ray's dashboard showed beside them."""
    timeline: set[str]
    """Names of the spans in Ray's timeline at the run's end."""
    listened_at: set[str]
    """Addresses of dashboard and job port."""
    status_for_strangers: int
    """HTTP's, where the job port was asked without the token."""
    watched: "Watched | None"
    """None: there is no Prometheus here."""


@dataclass(frozen=True)
class Watched:
    """What Prometheus made of the run."""

    dark: list[str]
    """Panels without data."""
    alerted_s: float
    """From when the driver was held up to the alert."""
    firing: set[str]
    """Alerts at the run's end."""


@pytest.fixture(scope="module")
def whole(place: Place) -> Iterator[Job]:
    """A run that nothing disturbs, submitted to a head of its own."""
    figures: set[str] = set()
    with ray_head(place) as head, watching(head, place) as server:
        began = time.time()
        process = head.submit("grpo.py", place.words("whole", *TAUGHT, *TRACED), place)

        def ended() -> bool:
            names = {line.split("{")[0] for line in head.figures().splitlines()}
            figures.update(name for name in names if not name.startswith("#"))
            return process.poll() is not None

        def wait_for(true: Callable[[], bool]) -> None:
            wait_until(true, PATIENCE_S, lambda: place.said("grpo.py"), every_s=1.0)

        metrics = place.run("whole") / "metrics.jsonl"
        try:
            wait_for(lambda: ended() or (metrics.is_file() and b"\n" in metrics.read_bytes()))
            actors = head.actors()
            listened_at, strangers = head.listens_at(), head.status_for_strangers()
            alerted_s = server.alert_of_a_stalled_run(place.driver()) if server else 0.0
            wait_for(ended)
        finally:
            process.kill()
        said, uploaded, timeline = place.said("grpo.py"), head.uploaded(), head.timeline()
        assert process.returncode == 0, said
        watched = None
        if server:
            watched = Watched(server.panels_without_data(began), alerted_s, {*server.firing()})
        tuning = head.submit("sft.py", supervised(place), place)
        try:
            assert tuning.wait(PATIENCE_S) == 0, place.said("sft.py")
        finally:
            tuning.kill()
    run = place.run("whole")
    yield Job(run, said, figures, uploaded, actors, timeline, listened_at, strangers, watched)


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


def test_the_job_port_is_on_this_machine_alone_and_asks_for_the_token(whole: Job) -> None:
    assert whole.listened_at == {"127.0.0.1"}
    assert whole.status_for_strangers in (401, 403)


def test_a_supervised_job_is_submitted_in_the_same_way(whole: Job) -> None:
    tuned = whole.run.with_name("tuned")
    assert json.loads((tuned / "summary.json").read_text("utf-8"))["steps"] == 2
    AutoModelForImageTextToText.from_pretrained(tuned / "policy")


def test_every_metric_is_at_the_node_s_endpoint(whole: Job) -> None:
    ends = ("", "_bucket")
    missing = [m.series for m in METRICS if not whole.figures & {m.series + end for end in ends}]
    assert not missing


def seen_by_prometheus(job: Job) -> Watched:
    if job.watched is None:
        pytest.skip("no prometheus here")
    return job.watched


def test_every_panel_of_the_dashboards_has_data(whole: Job) -> None:
    assert seen_by_prometheus(whole).dark == []


def test_a_run_that_stalls_is_alerted_of_and_one_that_has_ended_is_not(whole: Job) -> None:
    watched = seen_by_prometheus(whole)
    assert 0 < watched.alerted_s < 60
    assert not watched.firing


def test_actors_are_called_after_their_run_and_role(whole: Job) -> None:
    named = {name: told for name, told in whole.actors.items() if name.startswith("whole/")}
    roles = ("rollout", "reward", "learner", "teacher")
    assert named == {f"whole/{role}-0": f"{role}-0 of whole" for role in roles}


def test_the_phases_of_each_step_are_in_the_timeline_beside_the_calls_of_actors(
    whole: Job,
) -> None:
    phases = ("rollout", "update", "sync")
    steps = {f"step {step}: {phase}" for step in range(1, STEPS + 1) for phase in phases}
    assert steps <= whole.timeline
    assert {"sample", "score", "update", "send_weights"} <= whole.timeline


def test_one_update_is_traced_and_all_tell_how_much_of_the_device_they_use(whole: Job) -> None:
    (trace,) = (whole.run / "traces").iterdir()
    assert trace.name == "step_2_rank_0.json"
    events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    assert any(event["name"] == "aten::mm" for event in events)
    steps = [line for line in lines(whole.run / "metrics.jsonl") if "grad_norm" in line]
    assert all(0 < step["mfu"] < 1 and step["tokens_per_s"] > 0 for step in steps)


def test_the_recipe_in_a_run_folder_is_the_one_that_ran(whole: Job) -> None:
    recipe = read_recipe(whole.run / "recipe.yaml", GRPORecipe)
    assert recipe.steps == STEPS and recipe.run_folder == whole.run


def test_a_checkpoints_policy_loads_in_transformers(whole: Job) -> None:
    folder = whole.run / "checkpoints" / f"step_{STEPS:06d}" / "policy"
    model, faults = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not faults["missing_keys"] and not faults["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(folder)
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


def test_no_secret_of_the_environment_is_written_anywhere(whole: Job, place: Place) -> None:
    assert not leaks(place, whole.run)
