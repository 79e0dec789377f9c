"""From scored groups to rows and back: who is taught, and whose figures are whose."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.schema.loss import LossConfig
from rl.algorithms.guards import NOTHING_LEARNED
from rl.algorithms.training_rows import logged_groups, step_advantages, training_rows
from rl.data.records import LearnerTokens, TeacherTokens, UpdateReport
from tests.unit.step_samples import scored

GROUPS = [
    scored([1.0, None, 0.0], name="mixed"),
    scored([1.0, 1.0, 1.0], name="flat"),
    scored([None, None, 1.0], name="alone"),
    scored([0.0, 0.0, 1.0], name="whole"),
]


def test_only_answers_with_something_to_teach_become_rows_under_their_own_numbers() -> None:
    rows = training_rows(GROUPS, step_advantages(GROUPS, LossConfig(advantage="group_mean")))
    assert [row.problem.id for row in rows] == ["mixed", "whole"]
    assert [[a.index for a in row.answers] for row in rows] == [[0, 2], [9, 10, 11]]
    assert [a.advantage for a in rows[0].answers] == [0.5, -0.5]
    assert [a.advantage for a in rows[1].answers] == pytest.approx([-1 / 3, -1 / 3, 2 / 3])
    assert [a.token_ids for a in rows[0].answers] == [(0,), (0, 1, 2)]
    assert rows[0].answers[1].sampler_logprobs == (-1.0, -1.0, -1.0)
    assert all(row.prompt_ids == (7, 8, 9) for row in rows)
    assert all(a.reference_logprobs is None for r in rows for a in r.answers)


def test_reference_logprobs_stay_with_their_answers() -> None:
    reference = ((-1.5,), (-2.5, -2.5), (-3.5, -3.5, -3.5))
    groups = [replace(GROUPS[0], reference_logprobs=reference)]
    (row,) = training_rows(groups, step_advantages(groups, LossConfig(advantage="group_norm")))
    assert [a.reference_logprobs for a in row.answers] == [reference[0], reference[2]]


def test_the_experts_of_an_answer_s_tokens_and_of_its_prompt_s_stay_with_them() -> None:
    told = [np.full((n, 2, 1), n, np.uint8) for n in range(4)]
    group = GROUPS[0].group
    answers = tuple(replace(a, experts=told[i]) for i, a in enumerate(group.answers))
    groups = [replace(GROUPS[0], group=replace(group, answers=answers, prompt_experts=told[3]))]
    (row,) = training_rows(groups, step_advantages(groups, LossConfig(advantage="group_norm")))
    assert row.lengths == (3, 0, 2)
    assert all(a is b for a, b in zip(row.experts, (told[3], told[0], told[2]), strict=True))


def spelled(ids: Sequence[int]) -> list[str]:
    """Each token by its number."""
    return [f"<{i}>" for i in ids]


def test_the_log_gets_each_answer_s_advantage_and_tokens_and_none_where_it_was_left_out() -> None:
    advantages = step_advantages(GROUPS, LossConfig(advantage="group_mean"))
    said = [LearnerTokens(np.zeros(n, np.float32), np.ones(n, np.float32)) for n in (1, 3, 1, 2, 3)]
    report = UpdateReport({}, dict(zip((0, 2, 9, 10, 11), said, strict=True)), skips=(False,))
    logged = logged_groups(GROUPS, advantages, report, spelled, None)
    assert [group.scored for group in logged] == GROUPS
    assert [group.learned for group in logged] == [
        (said[0], None, said[1]),
        (None, None, None),
        (None, None, None),
        tuple(said[2:]),
    ]
    assert [group.advantages for group in logged[:3]] == [
        (0.5, None, -0.5),
        (None, None, None),
        (None, None, None),
    ]
    assert logged[3].advantages == pytest.approx((-1 / 3, -1 / 3, 2 / 3))


def test_a_step_without_news_has_no_rows_and_is_logged_all_the_same() -> None:
    groups = [GROUPS[1]]
    advantages = step_advantages(groups, LossConfig(advantage="group_norm"))
    assert training_rows(groups, advantages) == []
    (logged,) = logged_groups(groups, advantages, NOTHING_LEARNED, spelled, 0)
    assert (logged.advantages, logged.learned) == ((None,) * 3, (None,) * 3)
    assert torch.count_nonzero(advantages.values_PG) == 0


def test_tokens_are_told_of_whole_answers_in_order_while_there_is_room() -> None:
    groups = GROUPS[:2]  # answers of 1, 2 and 3 tokens each
    advantages = step_advantages(groups, LossConfig(advantage="group_mean"))

    def told(most: int | None) -> list[bool]:
        logged = logged_groups(groups, advantages, NOTHING_LEARNED, spelled, most)
        return [texts is not None for group in logged for texts in group.token_texts]

    assert told(None) == [True] * 6
    assert told(0) == [False] * 6
    assert told(6) == [True] * 3 + [False] * 3
    assert told(5) == [True, True, False, True, False, False]
    (group,) = logged_groups(GROUPS[:1], advantages, NOTHING_LEARNED, spelled, 6)
    assert group.token_texts == (["<0>"], ["<0>", "<1>"], ["<0>", "<1>", "<2>"])


def test_a_teacher_speaks_of_every_answer_also_where_rewards_do_not() -> None:
    teacher = tuple(
        TeacherTokens(
            np.full(n, -n, np.float32), np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32)
        )
        for n in (1, 2, 3)
    )
    groups = [replace(group, teacher=teacher) for group in GROUPS[:2]]
    advantages = step_advantages(groups, LossConfig(advantage="group_mean"))
    rows = training_rows(groups, advantages, all_answers=True)
    assert [[a.index for a in row.answers] for row in rows] == [[0, 1, 2], [3, 4, 5]]
    assert [a.advantage for a in rows[0].answers] == [0.5, 0.0, -0.5]
    assert [a.teacher for row in rows for a in row.answers] == [*teacher, *teacher]


def test_an_answer_that_was_cut_off_can_be_left_out_and_counts_for_its_siblings_all_the_same() -> (
    None
):
    (group,) = GROUPS[3:]
    cut = replace(group.group.answers[2], finish_reason="length")
    groups = [replace(group, group=replace(group.group, answers=(*group.group.answers[:2], cut)))]
    loss = LossConfig(advantage="group_mean", mask_overlong=True)
    advantages = step_advantages(groups, loss)
    (row,) = training_rows(groups, advantages)
    assert [a.index for a in row.answers] == [0, 1]
    assert [a.advantage for a in row.answers] == pytest.approx([-1 / 3, -1 / 3])
    (logged,) = logged_groups(groups, advantages, NOTHING_LEARNED, spelled, 0)
    assert logged.advantages == pytest.approx((-1 / 3, -1 / 3, None))
