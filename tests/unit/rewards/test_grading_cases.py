"""Every case of the grading benchmark gets the verdict that it deserves."""

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks.grading import CASES, ours

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("case", ROWS, ids=[row["id"] for row in ROWS])
def test_a_case_gets_the_verdict_it_deserves(case: dict[str, Any]) -> None:
    verdict = ours(case)
    assert (verdict.cause == "correct") == case["right"], verdict
    assert verdict.cause not in ("bad_gold", "crash")


def test_each_kind_has_right_and_wrong_answers() -> None:
    right = Counter(row["kind"] for row in ROWS if row["right"])
    wrong = Counter(row["kind"] for row in ROWS if not row["right"])
    assert set(right) | {"one digit changed"} == set(wrong) | {"one digit changed"}
    assert min(wrong.values()) >= 1
    assert len(ROWS) >= 150
