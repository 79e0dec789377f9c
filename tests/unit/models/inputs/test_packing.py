"""Micro-batches as tensors, by hand."""

import numpy as np
import pytest
import torch

from models.inputs.packing import pack
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem, TeacherTokens

PROBLEM = Problem("p", "?", ("1",))
FIRST = TrainingRow(
    PROBLEM,
    (7, 8),
    (
        TrainingAnswer(4, (1, 2, 3), 0.5, (-0.1, -0.2, -0.3)),
        TrainingAnswer(5, (4,), -0.5, (-0.4,)),
        TrainingAnswer(6, (5, 6), 0.25, (-0.5, -0.6)),
    ),
)
SECOND = TrainingRow(PROBLEM, (9,), (TrainingAnswer(0, (1, 1), 1.0, (-0.7, -0.8)),))


def test_a_row_is_its_prompt_and_its_answers_without_their_last_tokens() -> None:
    batch = pack((FIRST,), pad_id=0)
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 5]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    # Every answer's first token is predicted by the prompt's last.
    assert batch.sources.tolist() == [1, 2, 3, 1, 1, 4]
    assert batch.targets.tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.answers.tolist() == [4, 4, 4, 5, 6, 6]
    assert batch.weights.tolist() == [1] * 6
    assert batch.advantages.tolist() == [0.5, 0.5, 0.5, -0.5, 0.25, 0.25]
    torch.testing.assert_close(batch.sampler_logprobs, -torch.arange(1, 7) / 10)
    assert batch.reference_logprobs is None


def test_siblings_see_the_prompt_and_themselves_but_not_each_other() -> None:
    assert pack((FIRST,), pad_id=0).attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_short_row_is_padded_and_padding_sees_only_itself() -> None:
    batch = pack((FIRST, SECOND), pad_id=99)
    assert batch.input_ids.tolist()[1] == [9, 1, 99, 99, 99]
    assert batch.attention_mask.shape == (2, 1, 5, 5)
    assert batch.attention_mask[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    # Sources count through the padded rectangle, rows one after the other.
    assert batch.sources.tolist() == [1, 2, 3, 1, 1, 4, 5, 6]
    assert batch.input_ids.flatten()[batch.sources].tolist() == [8, 1, 2, 8, 8, 5, 9, 1]
    assert batch.answers.tolist()[-2:] == [0, 0]


def test_reference_logprobs_come_along_and_targets_need_no_sampler() -> None:
    sampled = TrainingAnswer(0, (3, 4), 1.0, (-1.0, -2.0), (-1.5, -2.5))
    taught = TrainingAnswer(0, (3, 4))
    with_reference = pack((TrainingRow(PROBLEM, (1,), (sampled,)),), pad_id=0)
    assert with_reference.reference_logprobs.tolist() == [-1.5, -2.5]
    supervised = pack((TrainingRow(PROBLEM, (1,), (taught,)),), pad_id=0)
    assert supervised.sampler_logprobs is None
    assert supervised.weights.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["sampler_logprobs", "old_logprobs", "reference_logprobs"])
def test_logprobs_that_only_some_answers_have_are_refused(name: str) -> None:
    known = TrainingAnswer(0, (3, 4), 1.0, **{name: (-1.5, -2.5)})
    rows = (TrainingRow(PROBLEM, (1,), (known, TrainingAnswer(1, (5,), 1.0))),)
    with pytest.raises(ValueError, match=f"1 of 2 answers of a micro-batch have no {name}"):
        pack(rows, pad_id=0)


def test_a_batch_without_rows_is_one_token_that_counts_for_nothing() -> None:
    filler = pack((), pad_id=17)
    assert filler.input_ids.tolist() == filler.targets[None].tolist() == [[17]]
    assert (filler.sources.tolist(), filler.weights.tolist()) == ([0], [0.0])
    assert filler.sampler_logprobs is None and filler.reference_logprobs is None


def test_a_batch_moves_as_a_whole() -> None:
    batch = pack((FIRST,), 0, {"pixel_values": torch.zeros(3)}).to(torch.device("meta"))
    assert batch.input_ids.is_meta and batch.attention_mask.is_meta and batch.weights.is_meta
    assert batch.pixels["pixel_values"].is_meta
    assert batch.reference_logprobs is None


def test_a_teacher_s_tokens_stand_beside_the_sampled_ones_in_their_order() -> None:
    def taught(index: int, first: int, count: int) -> TrainingAnswer:
        values = np.arange(first, first + count, dtype=np.float32)
        ids = np.stack([values, values + 100], axis=1).astype(np.int32)
        tokens = TeacherTokens(-values, ids, -np.stack([values, values * 2], axis=1))
        return TrainingAnswer(index, (1,) * count, 0.0, (-1.0,) * count, teacher=tokens)

    rows = (
        TrainingRow(PROBLEM, (7,), (taught(0, 1, 2), taught(1, 3, 1))),
        TrainingRow(PROBLEM, (8, 9), (taught(2, 4, 1),)),
    )
    batch = pack(rows, pad_id=0)
    assert batch.teacher_logprobs.tolist() == [-1, -2, -3, -4]
    assert batch.teacher_ids.tolist() == [[1, 101], [2, 102], [3, 103], [4, 104]]
    assert batch.teacher_ids.dtype == torch.int64
    assert batch.teacher_top_logprobs.tolist() == [[-1, -2], [-2, -4], [-3, -6], [-4, -8]]
    assert pack((FIRST,), 0).teacher_ids is None
