"""R1V's whole path in small: every stage, a table at the end, and a rerun that goes on."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.command import Place, kill_9
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.ray,
    pytest.mark.slow,
    # One fixture runs everything, beside the tests of another process.
    pytest.mark.timeout(3600),
]

SHORT = (
    "start={tower_steps: 20, substitute_steps: 20}",
    "align.passes=[{data: {source: digits-align}, lr: 1.0e-2, steps: 60}]",
    "distill.data.limit=64",
    "rounds=[{threshold: 5, lr: 2.0e-3}]",
    "held_out.sets.pictures.limit=24",
    "held_out.sets.words.limit=24",
    "grpo.steps=2",
    "grpo.problems_per_step=4",
    "name=pipeline",
)
STAGES = [
    *("parts", "align", "swap", "round_1/distill", "round_1/sft"),
    *("choose", "grpo", "evaluate"),
]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place of its own: only parts that were pretrained to the end write chains."""
    return Place(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def words(own: Place) -> list[str]:
    reasoner = own.run("pipeline") / "parts" / "reasoner"
    return [*SHORT, f"log.folder={own.folder / 'runs'}", f"distill.teacher.path={reasoner}"]


@pytest.fixture(scope="module")
def run(own: Place, words: list[str]) -> Path:
    """The run, killed while chains are being written, and run again."""
    folder = own.run("pipeline")
    begun = own.start(words, "killed", "rl/pipeline.py")
    chains = folder / "round_1" / "distill" / "journal" / "chains"
    wait_until(
        lambda: chains.is_dir() or begun.poll() is not None,
        1500,
        lambda: own.said("killed")[-3000:],
    )
    assert begun.poll() is None, own.said("killed")[-3000:]
    kill_9(begun)
    wait_until(lambda: not own.processes(), 60, own.processes)
    own.finish(words, "again", "rl/pipeline.py")
    return folder


def states(said: str) -> dict[str, str]:
    """State of each stage as a run shows it first."""
    return dict(re.findall(r"│ (\S+) +│ (finished|goes on|runs) +│", said))


def test_a_killed_run_goes_on_with_the_stage_that_it_was_in(run: Path, own: Place) -> None:
    found = states(own.said("again"))
    assert list(found) == STAGES
    assert [found[name] for name in STAGES[:3]] == ["finished"] * 3
    assert found["round_1/distill"] == "goes on"
    assert {found[name] for name in STAGES[4:]} == {"runs"}


def test_no_problem_is_asked_twice_for_its_chain(run: Path) -> None:
    lines = (run / "round_1/distill/journal/chains/00000.jsonl").read_text()
    indices = [json.loads(line)["index"] for line in lines.splitlines()]
    assert len(indices) == len(set(indices)) == 64


def test_every_policy_stands_in_the_table(run: Path) -> None:
    rows = json.loads((run / "policies.json").read_text())
    assert [row["policy"] for row in rows] == ["M'", "swapped", "M1", "GRPO"]
    assert all(0 <= row["sets"]["pictures"]["accuracy"] <= 1 for row in rows)
    assert (run / "policies.md").read_text().count("\n| ") == 6
    assert (run / "policies.png").stat().st_size > 10_000


def test_rounds_learn_what_was_chosen_and_grpo_asks_the_best(run: Path) -> None:
    stages = json.loads((run / "stages.json").read_text())
    figures = stages["round_1/sft"]["figures"]
    ids = (run / "round_1/ids.txt").read_text().split()
    assert len(ids) == figures["chosen"] == figures["good"] + figures["failed"] - figures["both"]
    problems = (run / "grpo_ids.txt").read_text().split()
    assert len(problems) == stages["choose"]["figures"]["grpo_problems"]
    asked = [json.loads(line)["problem"] for line in (run / "grpo/samples.jsonl").open()]
    assert set(asked) <= set(problems)


def test_a_changed_recipe_says_what_it_would_run_again(
    run: Path, own: Place, words: list[str]
) -> None:
    said = own.finish([*words, "grpo.steps=3", "--dry-run"], "changed", "rl/pipeline.py")
    found = states(said)
    assert [name for name in STAGES if found[name] == "runs"] == ["grpo", "evaluate"]
    assert "grpo.steps=3, was 2" in said
