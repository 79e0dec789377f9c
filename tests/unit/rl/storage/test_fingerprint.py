"""A run goes on only with the rows that it began with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.schema.data import DataConfig
from rl.console.errors import UserError
from rl.data.problems import ProblemSet
from rl.storage.fingerprint import check_same_rows, row_fingerprint, save_fingerprint

ROWS = [{"problem": f"{n} + 1?", "answer": f"{n + 1}"} for n in range(40)]


def rows_of(folder: Path, rows: list[dict[str, Any]]) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    data = DataConfig.model_validate(
        {"source": str(file), "question_column": "problem", "image_column": None, "id_column": None}
    )
    problems = ProblemSet.open(
        data, measure=lambda _: 1, max_tokens=8, rejected=folder / "rejected.jsonl"
    )
    return problems.fingerprints


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (ROWS[:-1], "40 then and 39 now, and the first that differs is number 39"),
        (ROWS[:7] + ROWS[8:], "40 then and 39 now, and the first that differs is number 7"),
        ([*ROWS, {"problem": "new", "answer": "1"}], "40 then and 41 now, .* is number 40"),
        ([*ROWS[:3], ROWS[3] | {"answer": "5"}, *ROWS[4:]], "40 then and 40 now.* is number 3 "),
        ([ROWS[1], ROWS[0], *ROWS[2:]], "40 then and 40 now.* is number 0 "),
    ],
)
def test_other_rows_are_refused_and_the_first_that_differs_is_named(
    now: list[dict[str, Any]], told: str, tmp_path: Path
) -> None:
    save_fingerprint(tmp_path, rows_of(tmp_path / "then", ROWS))
    with pytest.raises(UserError, match=told):
        check_same_rows(tmp_path, rows_of(tmp_path / "now", now), "rows.jsonl")


def test_the_same_rows_elsewhere_are_taken(tmp_path: Path) -> None:
    save_fingerprint(tmp_path, rows_of(tmp_path / "then", ROWS))
    check_same_rows(tmp_path, rows_of(tmp_path / "moved", ROWS), "rows.jsonl")


def test_a_checkpoint_without_fingerprints_is_passed_over(tmp_path: Path) -> None:
    check_same_rows(tmp_path, np.array([1], dtype=np.uint64), "rows.jsonl")


def test_values_count_and_an_images_path_and_the_order_of_columns_do_not() -> None:
    row = {"a": 1, "b": [{"bytes": b"xyz", "path": "/one"}]}
    assert row_fingerprint(row) == row_fingerprint(
        {"b": [{"bytes": b"xyz", "path": "/two"}], "a": 1}
    )
    for other in ({**row, "a": "1"}, {**row, "a": None}, {"a": 1, "b": [{"bytes": b"xyzz"}]}):
        assert row_fingerprint(other) != row_fingerprint(row)
