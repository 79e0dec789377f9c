"""What each rank has of a row, and which of its tokens it predicts."""

import torch

from models.inputs.packing import pack
from models.sequence_parallel.group import SequenceGroup
from models.sequence_parallel.split import own_targets, widened
from tests.unit.models.inputs.test_packing import FIRST, SECOND


class Ranked(SequenceGroup):
    """A rank of so many, none of which is there."""

    def __init__(self, size: int, rank: int) -> None:
        self.size = size
        self.rank = rank


def test_rows_are_padded_to_what_the_ranks_divide_and_predictions_stay_in_place() -> None:
    batch = pack((FIRST, SECOND), pad_id=0)
    rows, width = batch.input_ids.shape
    wider = widened(batch, Ranked(width + 2, 0), pad_id=7)
    assert wider.input_ids.shape == (rows, width + 2)
    assert (wider.input_ids[:, width:] == 7).all() and (wider.segments[:, width:] == -1).all()
    for before, after in zip(batch.sources.tolist(), wider.sources.tolist(), strict=True):
        assert divmod(after, width + 2) == divmod(before, width)
    assert widened(batch, Ranked(width, 0), pad_id=7) is batch


def test_each_prediction_is_one_ranks_and_points_to_the_same_token_of_its_part() -> None:
    size = 3
    batch = widened(pack((FIRST, SECOND), pad_id=0), Ranked(size, 0), pad_id=0)
    width = batch.input_ids.shape[1]
    seen: list[int] = []
    for rank in range(size):
        group = Ranked(size, rank)
        places_M, sources_M = own_targets(batch, group)
        own_ids = batch.input_ids[:, group.own_part(width)].flatten()
        whole_ids = batch.input_ids.flatten()[batch.sources[places_M]]
        assert torch.equal(own_ids[sources_M], whole_ids)
        seen += places_M.tolist()
    assert sorted(seen) == list(range(len(batch.targets)))


def test_the_last_token_of_a_part_predicts_the_first_of_the_next() -> None:
    batch = widened(pack((FIRST,), pad_id=0), Ranked(2, 0), pad_id=0)
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 5, 0]]
    parts = [[each.tolist() for each in own_targets(batch, Ranked(2, rank))] for rank in (0, 1)]
    # The third token, 1, predicts the fourth, 2, which the second rank reads.
    assert parts == [[[0, 1, 3, 4], [1, 2, 1, 1]], [[2, 5], [0, 1]]]
