"""Ranks that share rows attend as one rank would."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch.multiprocessing import spawn

from models.policy.attention import attend_packed
from tests.unit.models.sequence_parallel.ranks import (
    SCALING,
    SPANS,
    attend_together,
    states_of,
    weights_of,
)

RANKS = 3
KINDS = ((3, 3), (6, 3), (6, 2), (12, 1))
"""Heads of queries and of keys: the ranks divide both, or find too few keys, or one for all."""


def test_outputs_and_gradients_are_those_of_one_rank_however_many_key_heads(tmp_path: Path) -> None:
    spawn(attend_together, (RANKS, KINDS, tmp_path), nprocs=RANKS)
    for heads, key_heads in KINDS:
        states = states_of(heads, key_heads)
        expected, _ = attend_packed(SimpleNamespace(), *states, None, spans=SPANS, scaling=SCALING)
        gradients = torch.autograd.grad((expected * weights_of(heads)).sum(), states)
        by_rank = [torch.load(tmp_path / f"{heads}_{key_heads}_{rank}.pt") for rank in range(RANKS)]
        made = torch.cat([each[0] for each in by_rank], dim=1)
        torch.testing.assert_close(made, expected)
        # Each rank's loss is of its own tokens, and so is the gradient that it has a part of.
        for place, gradient in enumerate(gradients, start=1):
            torch.testing.assert_close(sum(each[place] for each in by_rank), gradient)
