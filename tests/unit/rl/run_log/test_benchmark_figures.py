"""avg@k, pass@k, cons@k and their kin, with numbers worked by hand."""

import json
from itertools import combinations
from statistics import fmean
from typing import Any

import pytest

from rl.run_log.benchmark_figures import (
    ScoredAnswer,
    benchmark_result,
    consensus,
    pass_at_k,
)


def said(problem: str, sample: int, score: float | None, **fields: Any) -> ScoredAnswer:
    """An answer of 10 tokens that votes for its score."""
    cause = "crash" if score is None else "correct" if score == 1.0 else "wrong"
    all_fields: dict[str, Any] = {
        "subjects": (),
        "question": "?",
        "gold": ("1",),
        "text": "t",
        "finish_reason": "stop",
        "tokens": 10,
        "cause": cause,
        "detail": "",
        "vote": str(score),
    }
    return ScoredAnswer(problem=problem, sample=sample, score=score, **all_fields | fields)


def group(problem: str, *scores: float | None, **fields: Any) -> list[ScoredAnswer]:
    return [said(problem, sample, score, **fields) for sample, score in enumerate(scores)]


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 5, 2), (4, 4, 4)])
def test_pass_at_k_is_the_share_of_draws_of_k_that_hold_a_right_one(n: int, c: int, k: int) -> None:
    draws = list(combinations(range(n), k))
    assert pass_at_k(n, c, k) == pytest.approx(fmean(any(i < c for i in d) for d in draws))


def test_pass_at_more_than_was_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@6 cannot be told from 5"):
        pass_at_k(5, 2, 6)


def test_figures_of_two_problems() -> None:
    answers = group("a", 1.0, 0.0, 0.0, 1.0) + group("b", 0.0, 0.0, 0.0, 0.0)
    figures = benchmark_result("x", answers, seed=0).figures
    assert figures["accuracy"] == figures["pass@1"] == 1 / 4
    assert figures["pass@2"] == pytest.approx((1 - 1 / 6) / 2)  # C(2,2)/C(4,2) = 1/6
    assert figures["pass@4"] == 1 / 2
    assert "pass@3" not in figures and figures["samples"] == 4 and figures["problems"] == 2
    assert figures["cons@4"] == pytest.approx(1 / 4)  # "a" ties two against two, "b" is wrong
    assert (figures["run_low"], figures["run_high"]) == (0.0, 0.5)
    assert (figures["low"], figures["high"]) == (0.0, 0.5)
    assert figures["verdicts/wrong"] == 3 / 4 and figures["verdicts/correct"] == 1 / 4


def test_the_mean_over_problems_is_the_mean_of_the_runs() -> None:
    scores = {"a": (1.0, 0.0, 1.0), "b": (0.0, 0.0, 1.0), "c": (1.0, 1.0, 1.0)}
    answers = [one for name, given in scores.items() for one in group(name, *given)]
    runs = [fmean(given[run] for given in scores.values()) for run in range(3)]
    assert benchmark_result("x", answers, 0).figures["accuracy"] == pytest.approx(fmean(runs))


def test_the_majority_wins_even_where_it_is_wrong() -> None:
    votes = [("7", 0.0), ("7", 0.0), ("8", 1.0)]
    answers = [said("a", i, score, vote=vote) for i, (vote, score) in enumerate(votes)]
    assert consensus(answers) == 0.0
    more = [*answers, *(said("a", i, 1.0, vote="8") for i in (3, 4))]
    assert consensus(more) == consensus(more[::-1]) == 1.0


def test_answers_without_a_final_answer_do_not_vote() -> None:
    silent = [said("a", i, 0.0, vote=None) for i in range(3)]
    assert consensus([*silent, said("a", 3, 1.0, vote="8")]) == 1.0
    assert consensus(silent) == 0.0


def test_verdicts_that_say_nothing_of_the_model_are_left_out_and_told() -> None:
    answers = group("a", 1.0, None) + group("b", None, None) + group("c", 0.0, 0.0)
    result = benchmark_result("x", answers, seed=0)
    assert result.scores == {"a": 1.0, "c": 0.0}
    assert result.figures["accuracy"] == 1 / 2
    assert result.figures["pass@2"] == 0.0  # only "c" has two that count
    assert result.figures["unscored_share"] == 1 / 2
    nothing = benchmark_result("x", group("b", None), seed=0)
    assert "accuracy" not in nothing.figures and nothing.figures["unscored_share"] == 1.0


def test_partial_scores_count_in_the_mean_and_pass_nothing() -> None:
    figures = benchmark_result("x", group("a", 0.5, 0.5), seed=0).figures
    assert figures["accuracy"] == 0.5 and figures["pass@1"] == figures["pass@2"] == 0.0


def test_subjects_have_rows_of_their_own() -> None:
    answers = (
        group("a", 1.0, 1.0, subjects=("Art",))
        + group("b", 0.0, 1.0, subjects=("Art",))
        + group("c", 0.0, 0.0, subjects=("Law", "level 5"))
    )
    assert benchmark_result("x", answers, seed=0).subjects == {
        "Art": {"problems": 2, "accuracy": 0.75},
        "Law": {"problems": 1, "accuracy": 0.0},
        "level 5": {"problems": 1, "accuracy": 0.0},
    }
    assert not benchmark_result("x", group("a", 1.0), seed=0).subjects


def test_lengths_and_cut_answers_are_told() -> None:
    answers = [said("a", 0, 1.0, tokens=10), said("a", 1, 0.0, tokens=40, finish_reason="length")]
    figures = benchmark_result("x", answers, seed=0).figures
    assert figures["mean_length"] == 25 and figures["truncated_share"] == 1 / 2


def test_an_answer_comes_back_from_its_line() -> None:
    for score in (1.0, None):
        answer = said("a", 3, score, gold=("1", "one"), subjects=("Art",), text="½ \\boxed{1}")
        assert ScoredAnswer.from_line(json.loads(json.dumps(answer.line()))) == answer
