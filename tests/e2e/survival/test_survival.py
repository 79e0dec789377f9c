"""A GRPO run on text alone that loses node after node, then its driver, and goes on each time."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import read_recipe
from models.inputs.encoder import InputEncoder
from rl.jobs.prepare import open_problems
from tests.e2e.command import STEPS, Place, answers, asked, check_finished, leaks, lines
from tests.e2e.survival.nodes import namespaces
from tests.repository import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

SAVED = 2
"""Step of the checkpoint that the killed run goes on from."""


@dataclass(frozen=True)
class Resumed:
    """A run on text alone that lost the nodes of its rollout worker and of a learner rank, then its
    driver, and went on each time."""

    run: Path
    said_before: str
    said: str
    """By the command that was given again."""
    found: dict[str, Any]
    """What was seen on the way."""

    @property
    def before(self) -> list[dict[str, Any]]:
        """Samples that the killed run had logged."""
        return self.found["before"]


@pytest.fixture(scope="module")
def resumed(place: Place) -> Resumed:
    run, folder = place.run("cut"), place.folder / "losses"
    # So fast that two updates change most answers.
    fast = ("learner.optimizer.lr=0.01", "learner.optimizer.warmup_ratio=0")
    kept = (f"checkpoint.every={SAVED}", "checkpoint.keep=3")
    # What a lost node takes along is none of the deaths that these count.
    strict = ("rollout.restarts=0", "reward.restarts=0")
    more = (*kept, *strict, "sample_buffer={}", "learner.ranks=2")
    words = [*place.words("cut", "digits_text", *more, *fast), "--resume-or-start"]
    apart = namespaces()
    script = [*apart, sys.executable, "-m", "tests.e2e.survival.losses", folder, run, str(SAVED)]
    with place.log("losses").open("wb") as out:
        done = subprocess.run(
            [*script, *words],
            cwd=ROOT,
            env=place.environment() | ({"APART": "yes"} if apart else {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = {path.stem: path.read_text(errors="replace") for path in folder.glob("*.log")}
    last = [f"{name}: {text[-3000:]}" for name, text in said.items()]
    assert done.returncode == 0, "\n".join([place.said("losses")[-3000:], *last])
    found = json.loads((folder / "found.json").read_text("utf-8"))
    assert found["status"] == 0, said["resumed"]
    return Resumed(run, said["before"], said["resumed"], found)


def test_rollout_reward_and_learner_ranks_stand_on_nodes_of_their_own(resumed: Resumed) -> None:
    assert resumed.found["where"] == {
        "LearnerRank": ["head", "learns"],
        "RolloutWorker": ["answers"],
        "RewardWorker": ["head"],
    }


def test_what_stood_on_a_lost_node_is_started_on_another(resumed: Resumed) -> None:
    assert "a rollout actor died; starting another" in resumed.said_before
    assert resumed.found["where_at_last"] == {
        "LearnerRank": ["head", "spare"],
        "RolloutWorker": ["spare"],
    }


def test_a_killed_driver_leaves_no_process_behind(resumed: Resumed) -> None:
    assert not resumed.found["left"]


def test_a_run_that_loses_a_learner_rank_goes_on_from_its_checkpoint_by_itself(
    resumed: Resumed,
) -> None:
    assert resumed.found["saved"] == [f"step_{SAVED:06d}"]
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
    assert re.search(r"passing over \S+\.writing_step_000009: it was not written", resumed.said)
    assert re.search(r"step_000003: learner/\S+\.pt has 4,096 of its [\d,]+ bytes", resumed.said)
    assert f"from step {SAVED} on, " not in resumed.said, "nothing of the recipe has changed"
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
