"""D_t = {RM >= tau_t} and E_{t-1}: which chains of a round are learned, worked by hand."""

from pathlib import Path

import numpy as np

from rl.stages.chosen import Grades, best_round, choose, write_best

GRADES = Grades(
    ids=["a", "b", "c", "d", "e"],
    quality_N=np.array([5, 2, 4, 1, -1]),
    failed_N=np.array([False, True, False, True, False]),
)


def test_good_chains_and_those_of_failed_problems_are_learned(tmp_path: Path) -> None:
    figures = choose(GRADES, 4, tmp_path, None)
    assert (tmp_path / "ids.txt").read_text().split() == ["a", "b", "c", "d"]
    assert figures == {
        "chains": 5,
        "ungraded": 1,
        "good": 2,
        "failed": 2,
        "both": 0,
        "chosen": 4,
        "quality_mean": 3.0,
        **{"quality_0": 0, "quality_1": 1, "quality_2": 1, "quality_3": 0},
        **{"quality_4": 1, "quality_5": 1},
    }


def test_a_round_tells_how_many_the_round_before_chose_too(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    choose(GRADES, 5, first, None)  # a, and b and d that failed
    figures = choose(GRADES, 2, second, first)  # a, b, c, and d that failed
    assert figures["both"] == 1 and figures["again"] == 3 / 4


def test_threshold_0_takes_all_that_have_a_grade(tmp_path: Path) -> None:
    assert choose(GRADES, 0, tmp_path, None)["chosen"] == 4


def test_grpo_learns_from_the_best_chains_problems(tmp_path: Path) -> None:
    assert write_best(GRADES, tmp_path / "best.txt") == 1
    assert (tmp_path / "best.txt").read_text() == "a\n"


def test_the_best_policy_is_that_of_the_highest_accuracy_and_of_equals_the_later() -> None:
    assert best_round({1: 0.8, 2: 0.9, 3: 0.9, 4: 0.7}) == 3
