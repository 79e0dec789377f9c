"""Every pair of answer and gold in the tables gets the verdict written beside it."""

import json
from pathlib import Path

import pytest

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.math.comparison import extract_comparison
from rewards.math.equality import compare
from rewards.registry import INLINE
from rl.data.records import Problem, Verdict

HERE = Path(__file__).parent
CONFIG = RewardConfig()


def rows(name: str, columns: int) -> list[tuple[str, ...]]:
    """The cells of a table's rows, comments and headings left out."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    cells = [
        tuple(cell.strip(" ") for cell in line.split("¦"))
        for line in lines
        if line and not line.startswith("#")
    ]
    for row in cells:
        assert len(row) == columns, f"{name} has a row of {len(row)} cells: {row}"
    return cells


def problem(gold: str, fields: str = "{}") -> Problem:
    forms = tuple(form.strip() for form in gold.split("‖"))
    return Problem("row", "what?", forms, fields=json.loads(fields))


def completion(text: str) -> Completion:
    return Completion(text.replace("⏎", "\n"), 10, 100, "stop")


def math_verdict(gold: str, text: str) -> Verdict:
    said = extract_comparison(problem(gold), completion(text), CONFIG.math, CONFIG.thinking)
    return said if isinstance(said, Verdict) else compare(said, CONFIG.math, lambda _: None)


MATH = rows("answer_pairs_math.txt", 3)
OTHER = rows("answer_pairs_other.txt", 5)


@pytest.mark.parametrize(("cause", "gold", "text"), MATH)
def test_math_gives_each_pair_its_verdict(cause: str, gold: str, text: str) -> None:
    verdict = math_verdict(gold, text)
    assert verdict.cause == cause, verdict
    assert verdict.score == (1.0 if cause == "correct" else 0.0)


@pytest.mark.parametrize(("reward", "cause", "gold", "fields", "text"), OTHER)
def test_other_rewards_give_each_pair_its_verdict(
    reward: str, cause: str, gold: str, fields: str, text: str
) -> None:
    verdict = INLINE[reward](CONFIG)(problem(gold, fields), completion(text))
    assert verdict.cause == cause, verdict


def test_the_tables_hold_at_least_250_distinct_pairs() -> None:
    assert len(set(MATH)) + len(set(OTHER)) >= 250
