"""Checks of rows: the same in processes as in threads, and kept until something changes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.schema.data import DataConfig
from rl.data import row_outcomes
from rl.data.problems import ProblemSet
from rl.data.records import Problem
from rl.data.row_checks import TooManyRejected
from rl.data.row_outcomes import KnownMeasure, RowCheck
from tests.unit.step_samples import png

Row = dict[str, Any]
Open = Callable[..., ProblemSet]


def words(problem: Problem) -> int:
    """A measure that other processes find by its name."""
    if "refused" in problem.question:
        raise ValueError("the template refuses it")
    return len(problem.question.split())


def rows(count: int) -> list[Row]:
    """Usable rows, and each kind of rejected one now and then."""
    made = [{"id": n, "question": f"{n} + 1 ?", "answer": n + 1} for n in range(count)]
    for n in range(0, count, 10):
        made[n]["question"] = ""
        made[n + 3]["question"] += " and so on and on and on"
        made[n + 5]["question"] = "refused"
        made[n + 7]["id"] = n + 6
    return made


def write(folder: Path, data: list[Row]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data), "utf-8")
    return path


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the rows that are looked at in this process."""
    seen: list[int] = []
    decode = RowCheck.decode

    def noted(check: RowCheck[Any], row: Row, number: int) -> Any:
        seen.append(number)
        return decode(check, row, number)

    monkeypatch.setattr(RowCheck, "decode", noted)
    return seen


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv("R1V_CACHE", str(tmp_path / "cache"))

    def open_set(settings: str | None = "one", max_tokens: int = 5, **data: Any) -> ProblemSet:
        config = {"source": str(tmp_path / "rows.jsonl"), "id_column": "id", "image_column": None}
        measure = words if settings is None else KnownMeasure(words, settings)
        return ProblemSet.open(
            DataConfig.model_validate(config | {"max_rejected_share": 1.0} | data),
            measure=measure,
            max_tokens=max_tokens,
            rejected=tmp_path / "rejected.jsonl",
        )

    return open_set


def found(problems: ProblemSet, folder: Path) -> tuple[Any, ...]:
    said = (folder / "rejected.jsonl").read_text("utf-8")
    return problems.ids, problems.fingerprints.tolist(), problems.rejected, said


def test_processes_find_what_threads_find(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, looked_at: list[int]
) -> None:
    write(tmp_path, rows(200))
    expected = found(opened(None), tmp_path)
    assert len(looked_at) == 200
    assert expected[2] == {
        "no_question": 20,
        "too_long": 20,
        "unprocessable": 20,
        "duplicate_id": 20,
    }
    looked_at.clear()
    monkeypatch.setattr(row_outcomes, "PAYS_FROM_S", 0.0)
    monkeypatch.setattr(row_outcomes, "_TRIED_ROWS", 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert found(opened(), tmp_path) == expected
    assert looked_at == list(range(30)), "the others were looked at elsewhere"


def test_rows_that_were_looked_at_before_are_not_looked_at_again(
    tmp_path: Path, opened: Open, looked_at: list[int]
) -> None:
    write(tmp_path, rows(20))
    expected = found(opened(), tmp_path)
    (tmp_path / "rejected.jsonl").unlink()
    assert found(opened(), tmp_path) == expected
    assert sorted(looked_at) == list(range(20))
    # How many may be rejected is no matter of single rows.
    with pytest.raises(TooManyRejected, match="8 of 20"):
        opened(max_rejected_share=0.3)
    assert len(looked_at) == 20


@pytest.mark.parametrize(
    "change",
    [{"settings": "two"}, {"max_tokens": 99}, {"limit": 19}, {"reward_columns": ("id",)}],
)
def test_a_changed_setting_is_looked_at_anew(
    tmp_path: Path, opened: Open, looked_at: list[int], change: dict[str, Any]
) -> None:
    write(tmp_path, rows(20))
    before = found(opened(), tmp_path)
    looked_at.clear()
    after = found(opened(**change), tmp_path)
    assert len(looked_at) == change.get("limit", 20)
    assert (after == before) == (change.keys() <= {"settings", "reward_columns"})


def test_a_changed_row_is_looked_at_anew(
    tmp_path: Path, opened: Open, looked_at: list[int]
) -> None:
    data = rows(20)
    write(tmp_path, data)
    opened()
    data[1]["question"] = "refused"
    write(tmp_path, data)
    looked_at.clear()
    assert opened().rejected["unprocessable"] == 3
    assert len(looked_at) == 20


def test_images_beside_the_rows_are_looked_at_anew_when_they_change(
    tmp_path: Path, opened: Open, looked_at: list[int]
) -> None:
    (tmp_path / "a.png").write_bytes(png(4, 4))
    write(tmp_path, [dict(row, image="a.png") for row in rows(20)[:5]])
    opened(image_column="image")
    looked_at.clear()
    opened(image_column="image")
    assert looked_at == []
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(TooManyRejected, match="4 x corrupt_image"):
        opened(image_column="image")
    assert len(looked_at) == 5


def test_missing_images_are_looked_for_each_time(
    tmp_path: Path, opened: Open, looked_at: list[int]
) -> None:
    write(tmp_path, [dict(row, image=f"{n}.png") for n, row in enumerate(rows(20)[1:3])])
    (tmp_path / "0.png").write_bytes(png(4, 4))
    assert opened(image_column="image").rejected == {"missing_image": 1}
    (tmp_path / "1.png").write_bytes(png(4, 4))
    assert opened(image_column="image").rejected == {}
    assert len(looked_at) == 4
