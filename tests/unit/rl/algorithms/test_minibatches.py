"""A step's updates: who learns from what, and what is told of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.algorithms.minibatches import UpdatePlan, one_report, with_old_logprobs
from rl.algorithms.rows import TrainingAnswer, TrainingRow, count_tokens
from rl.data.records import LearnerTokens, Problem, UpdateReport
from tests.unit.step_samples import recipe


def row(first: int, *lengths: int) -> TrainingRow:
    answers = tuple(TrainingAnswer(first + i, (5,) * length) for i, length in enumerate(lengths))
    return TrainingRow(Problem(str(first), "?", ("1",)), (7,), answers)


ROWS = [row(0, 1, 3), row(10, 4), row(20, 2, 2), row(30, 8), row(40, 1)]


def plan(**changes: object) -> UpdatePlan:
    return UpdatePlan(**{"aggregation": "sequence_mean", "longest": 9, "asked": 16} | changes)


def names(rows: list[TrainingRow]) -> list[str]:
    return [row.problem.id for row in rows]


def test_whole_groups_are_dealt_to_updates_in_turn() -> None:
    batches = plan(minibatches=2).split(ROWS)
    assert [names(batch) for batch in batches] == [["0", "20", "40"], ["10", "30"]]
    # Of its own update: 12 tokens, 2 answers; 12 / (2 * tokens of the answer).
    weights = [[answer.weight for answer in row.answers] for row in batches[1]]
    assert weights == [pytest.approx([12 / 8]), pytest.approx([12 / 16])]


def test_a_constant_divides_by_answers_of_groups_that_teach_nothing_too() -> None:
    # 16 answers of at most 9 tokens were asked for, 8 of them for each of two updates.
    for rows in (ROWS, ROWS[:3], ROWS[:1]):
        for batch in plan(aggregation="constant", minibatches=2).split(rows):
            tokens = count_tokens(batch)
            weights = [answer.weight / tokens for row in batch for answer in row.answers]
            assert weights == pytest.approx([1 / (8 * 9)] * len(weights))


@settings(deadline=None)
@given(count=st.integers(1, 9), groups=st.integers(1, 20))
def test_every_group_is_in_one_update_of_an_epoch(count: int, groups: int) -> None:
    rows = [row(10 * i, 1) for i in range(groups)]
    batches = plan(minibatches=count).split(rows)
    assert sorted(names([row for batch in batches for row in batch])) == sorted(names(rows))
    assert len(batches) == min(count, groups)
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1


def test_old_logprobs_are_read_only_where_an_earlier_update_would_have_moved_them() -> None:
    def late(**changes: object) -> list[str]:
        made = plan(keeps_old=True, **changes)
        return names(made.met_late(made.split(ROWS)))

    assert late() == []
    assert late(minibatches=2) == ["10", "30"]
    assert late(epochs=2) == names(ROWS)
    assert late(minibatches=2, epochs=3) == ["0", "20", "40", "10", "30"]
    made = plan(minibatches=2, epochs=3)
    assert made.met_late(made.split(ROWS)) == []


def test_old_logprobs_go_to_the_answers_that_they_are_of() -> None:
    first, second = with_old_logprobs(ROWS[:2], {1: (-1.0, -2.0, -3.0)})
    assert [a.old_logprobs for a in first.answers] == [None, (-1.0, -2.0, -3.0)]
    assert second == ROWS[1]


def said(gap: float) -> LearnerTokens:
    return LearnerTokens(np.full(2, gap, np.float32), np.ones(2, np.float32))


def test_updates_are_told_as_one_with_what_lies_before_them_from_the_first() -> None:
    first = {"loss": 1.0, "logprob_gap": 0.1, "lr": 3e-6, "skipped": 0.0, "critical_entropy": 2.0}
    second = {"loss": 2.0, "logprob_gap": 0.5, "lr": 2e-6, "skipped": 1.0}
    reports = [
        UpdateReport(first, {0: said(0.1), 1: said(0.2)}, skips=(False,)),
        UpdateReport(second, {1: said(0.9), 2: said(0.3)}, skips=(True,)),
    ]
    one = one_report(reports)
    assert one.metrics == {
        "loss": 1.5,
        "logprob_gap": 0.1,
        "lr": 2e-6,
        "skipped": 1.0,
        "critical_entropy": 2.0,
    }
    assert {i: round(of.logprob_gap, 3) for i, of in one.answers.items()} == {
        0: 0.1,
        1: 0.2,
        2: 0.3,
    }
    assert one.skips == (False, True)
    assert not one.skipped and one_report(reports[1:]).skipped


def test_the_plan_is_the_recipe_s() -> None:
    made = UpdatePlan.of(
        recipe(
            problems_per_step=6,
            learner={"minibatches": 4, "epochs": 2},
            loss={"policy_loss": "gspo", "old_policy": "learner"},
            rollout={"max_new_tokens": 77, "group_size": 5},
        )
    )
    assert made == UpdatePlan("sequence_mean", 77, 30, minibatches=4, epochs=2, keeps_old=True)
