"""Ranks of one process each, which meet over gloo and attend together."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import Tensor

from models.policy.attention import Span, attend_packed
from models.sequence_parallel.group import SequenceGroup
from models.sequence_parallel.split import GROUP

ROWS, TOKENS, WIDTH = 2, 12, 8
SPANS = (Span(3), Span(5, prompt=0), Span(4, prompt=0), Span(7), Span(5, padding=True))
"""Of two rows: a prompt with two answers, and one with padding."""
SCALING = 0.3


def states_of(heads: int, key_heads: int) -> list[Tensor]:
    """Query, key and value of all tokens, the same in every process, that take gradients."""
    drawn = torch.Generator().manual_seed(10 * heads + key_heads)
    return [
        torch.randn(ROWS, count, TOKENS, WIDTH, generator=drawn).requires_grad_()
        for count in (heads, key_heads, key_heads)
    ]


def weights_of(heads: int) -> Tensor:
    """[B, T, heads, D] that attended states are summed with."""
    drawn = torch.Generator().manual_seed(heads)
    return torch.randn(ROWS, TOKENS, heads, WIDTH, generator=drawn)


def attend_together(rank: int, ranks: int, kinds: Sequence[tuple[int, int]], folder: Path) -> None:
    """For (heads, key heads) of each kind, write this rank's attended tokens and its gradients."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    group = SequenceGroup.of_size(ranks, timedelta(seconds=60))
    assert group is not None
    own = group.own_part(TOKENS)
    for heads, key_heads in kinds:
        states = states_of(heads, key_heads)
        made, _ = attend_packed(
            SimpleNamespace(),
            *(each[:, :, own] for each in states),
            None,
            spans=SPANS,
            scaling=SCALING,
            **{GROUP: group},
        )
        gradients = torch.autograd.grad((made * weights_of(heads)[:, own]).sum(), states)
        torch.save([made.detach(), *gradients], folder / f"{heads}_{key_heads}_{rank}.pt")
    dist.destroy_process_group()
