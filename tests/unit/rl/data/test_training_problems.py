"""Several sources, each with its own columns, asked in fixed shares."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.jobs.grpo import GRPORecipe
from rl.console.errors import UserError
from rl.data.training_problems import TrainingProblems
from rl.jobs.prepare import open_problems
from tests.unit.step_samples import recipe


def rows(folder: Path, name: str, *rows: dict[str, Any]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def mixed(tmp_path: Path) -> dict[str, Any]:
    sums = [{"question": f"{n} + 1?", "answer": n + 1, "level": n} for n in range(4)]
    names = [{"q": f"What is {n}?", "label": n} for n in ("1", "2")]
    return {
        "sums": {"source": rows(tmp_path, "sums", *sums), "weight": 2, "image_column": None},
        "names": {
            "source": rows(tmp_path, "names", *[dict(r, level=i) for i, r in enumerate(names)]),
            "question_column": "q",
            "answer_column": "label",
            "image_column": None,
        },
    }


def opened(folder: Path, **data: Any) -> tuple[GRPORecipe, TrainingProblems]:
    made = recipe(data=data)
    problems, _ = open_problems(made, lambda problem: len(problem.question), folder)
    return made, problems


def test_each_batch_holds_each_source_by_its_weight(tmp_path: Path, mixed: Any) -> None:
    _, problems = opened(tmp_path, mix=mixed, shuffle=False)
    assert len(problems) == 6 and len(problems.fingerprints) == 6
    batches = [[p.id for p in problems.cursor.take(3)] for _ in range(3)]
    assert batches == [
        ["sums/0", "names/0", "sums/1"],
        ["sums/2", "names/1", "sums/3"],
        ["sums/0", "names/0", "sums/1"],
    ]
    assert [p.source for p in problems.first(3)] == ["sums", "names", "sums"]
    assert [p.question for p in problems.one_of_each()] == ["0 + 1?", "What is 1?"]
    found = problems.with_ids({"names/1", "sums/3"})
    assert {name: p.question for name, p in found.items()} == {
        "names/1": "What is 2?",
        "sums/3": "3 + 1?",
    }


def test_rejected_rows_are_told_by_source(tmp_path: Path, mixed: Any) -> None:
    mixed["sums"]["max_rejected_share"] = 1.0
    made = recipe(data={"mix": mixed})
    problems, _ = open_problems(made, lambda p: 10_000 * (p.question == "2 + 1?"), tmp_path)
    assert problems.rejected == {"too_long": 1}
    assert "too_long" in (tmp_path / "rejected_sums.jsonl").read_text()
    assert (tmp_path / "rejected_names.jsonl").read_text() == ""


def test_a_column_orders_each_epoch(tmp_path: Path, mixed: Any) -> None:
    curriculum = {"column": "level", "first": "high"}
    source = mixed["sums"]["source"]
    _, problems = opened(tmp_path, source=source, image_column=None, curriculum=curriculum)
    assert [p.id for p in problems.cursor.take(8)] == list("32103210")


def test_a_column_within_another_orders_by_its_dotted_name(tmp_path: Path) -> None:
    levels = [
        {"question": f"{n}?", "answer": n, "extra_info": {"level": level}}
        for n, level in enumerate((3, 1, 2))
    ]
    dotted = {"column": "extra_info.level", "first": "low"}
    source = rows(tmp_path, "verl", *levels)
    _, problems = opened(tmp_path, source=source, image_column=None, curriculum=dotted)
    assert [p.id for p in problems.cursor.take(3)] == ["1", "2", "0"]

    levels[1]["extra_info"] = {"level": "hard"}
    levels[2]["extra_info"] = {}
    source = rows(tmp_path, "mixed", *levels)
    fault = r"'extra_info\.level' of problem '1' is 'hard', which is no number"
    with pytest.raises(UserError, match=fault):
        opened(tmp_path, source=source, image_column=None, curriculum=dotted)


def test_a_curriculum_over_what_is_no_number_names_the_problem(tmp_path: Path) -> None:
    source = rows(tmp_path, "a", {"question": "?", "answer": 1, "level": "hard"})
    with pytest.raises(UserError, match=r"'level' of problem '0' is 'hard', which is no number"):
        opened(
            tmp_path,
            source=source,
            image_column=None,
            curriculum={"column": "level", "first": "low"},
        )


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({}, "data.source is empty"),
        ({"source": "a.jsonl", "mix": {"b": {"source": "b.jsonl"}}}, "beside data.mix"),
        ({"limit": 3, "mix": {"b": {"source": "b.jsonl"}}}, "data.limit=3 beside data.mix"),
        ({"mix": {"a/b": {"source": "b.jsonl"}}}, "should match pattern"),
        ({"mix": {"b": {"source": "b.jsonl", "weight": 0}}}, "greater than 0"),
        (
            {"mix": {n: {"source": "b.jsonl", "weight": w} for n, w in (("a", 1e-6), ("b", 1))}},
            "round them",
        ),
    ],
)
def test_contradictions_are_refused(data: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        recipe(data=data)
