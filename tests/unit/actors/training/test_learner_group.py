"""How a step's rows are dealt to learner ranks."""

from types import SimpleNamespace
from typing import Any

import pytest

from actors.cluster.driver_loop import DriverLoop
from actors.training.learner_group import LearnerGroup
from configs.schema.learner import GRPOLearnerConfig
from rl.algorithms.minibatches import UpdatePlan
from tests.unit.rl.algorithms.test_rows import row


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_that_share_rows_get_the_same_ones_and_other_ranks_others(size: int) -> None:
    loop = DriverLoop()
    try:
        as_they_are: Any = SimpleNamespace(share=lambda batches: batches)
        group = LearnerGroup(
            [None] * 4,
            loop,
            refs=as_they_are,
            plan=UpdatePlan("token_mean", 8, asked=2),
            learner=GRPOLearnerConfig(ranks=4, sequence_parallel_size=size),
            transport="gloo",
        )
        rows = [row(5, 3, name=str(number), first=number) for number in range(8)]
        dealt = [
            {one.problem.id for batch in share for one in batch} for share in group._shares(rows)
        ]
    finally:
        loop.close()
    assert len(dealt) == 4
    for rank, own in enumerate(dealt):
        for other, theirs in enumerate(dealt):
            if rank // size == other // size:
                assert own == theirs
            else:
                assert not own & theirs
    assert set.union(*dealt) == {str(number) for number in range(8)}
