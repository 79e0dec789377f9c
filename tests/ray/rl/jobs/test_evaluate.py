"""An evaluation of a served model: asked for real, cut short, gone on with, compared."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.jobs.evaluate import EvaluateRecipe
from rl.benchmarks.answers import answers_file, read_answers
from rl.benchmarks.compare import compare
from rl.console.errors import UserError
from rl.jobs.evaluate import evaluate_in_session
from tests.openai_server import Server, openai_server

pytestmark = pytest.mark.ray

SUMS = 6
SAMPLES = 2


@pytest.fixture
def server() -> Iterator[Server]:
    """Right at even sums."""

    def reply(body: dict[str, Any]) -> str:
        number = _number(body)
        return f"<think>so</think>\\boxed{{{number + 1 + number % 2}}}"

    with openai_server(reply) as state:
        yield state


def recipe(server: Server, folder: Path, **changes: Any) -> EvaluateRecipe:
    rows = folder / "sums.jsonl"
    lines = [{"id": f"s{i}", "question": f"{i} + 1", "answer": str(i + 1)} for i in range(SUMS)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    fields: dict[str, Any] = {
        "name": "asked",
        "policy": {"path": "served", "server": {"endpoint": server.url, "parallel": 2}},
        "rollout": {"samples": SAMPLES, "restarts": 0},
        "benchmarks": [
            {"name": "sums", "data": {"source": str(rows), "id_column": "id", "image_column": None}}
        ],
        "log": {"folder": str(folder / "runs"), "wandb": False},
    }
    return EvaluateRecipe.model_validate(fields | changes)


def test_a_served_model_is_asked_scored_and_reported(
    cluster: None, server: Server, tmp_path: Path
) -> None:
    asked = recipe(server, tmp_path)
    result = evaluate_in_session(asked, resume=False)["sums"]
    assert result.figures["accuracy"] == 0.5 and len(server.asked) == SUMS * SAMPLES
    summary = json.loads((asked.run_folder / "summary.json").read_text())
    assert summary["protocol"]["server"] == server.url
    assert summary["benchmarks"]["sums"]["cons@2"] == 0.5
    assert "| sums | 6 | 2 | 50.0 |" in (asked.run_folder / "report.md").read_text()


def test_a_run_that_was_cut_short_goes_on_and_asks_nothing_twice(
    cluster: None, server: Server, tmp_path: Path
) -> None:
    asked = recipe(server, tmp_path)
    whole = evaluate_in_session(asked, resume=False)["sums"]
    path = answers_file(asked.run_folder, "sums")
    lines = path.read_text().splitlines(keepends=True)
    # As a kill leaves it: five answers, and a torn one.
    path.write_text("".join(lines[:5]) + lines[5][:20])
    before = len(server.asked)
    again = evaluate_in_session(asked, resume=True)["sums"]
    assert len(server.asked) - before == SUMS * SAMPLES - 5
    assert again.figures == whole.figures
    answers = read_answers(path)
    assert len({(a.problem, a.sample) for a in answers}) == len(answers) == SUMS * SAMPLES
    evaluate_in_session(asked, resume=True)
    assert len(server.asked) - before == SUMS * SAMPLES - 5


def test_a_changed_protocol_is_not_mixed_into_a_run(
    cluster: None, server: Server, tmp_path: Path
) -> None:
    evaluate_in_session(recipe(server, tmp_path), resume=False)
    warmer = recipe(server, tmp_path, rollout={"samples": SAMPLES, "temperature": 1.0})
    with pytest.raises(UserError, match=r"rollout\.temperature was 0\.6, now 1\.0"):
        evaluate_in_session(warmer, resume=True)


def test_two_runs_are_compared_problem_by_problem(
    cluster: None, server: Server, tmp_path: Path
) -> None:
    first = recipe(server, tmp_path)
    evaluate_in_session(first, resume=False)
    server.reply = lambda body: f"\\boxed{{{_number(body) + 1}}}"
    second = recipe(server, tmp_path, name="better")
    evaluate_in_session(second, resume=False)
    (found,) = compare(first.run_folder, second.run_folder, seed=0)
    assert (found.test.first, found.test.second, found.left_out) == (0.5, 1.0, 0)
    assert (found.test.first_better, found.test.second_better) == (0, 3)


def _number(body: dict[str, Any]) -> int:
    """The sum's first number."""
    return int(re.findall(r"(\d+) \+ 1", str(body["messages"][-1]["content"]))[0])
