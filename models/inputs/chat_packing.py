"""Chats as tensors: in rows, one behind another, each blind to the others.

Axes: B rows, T tokens of the longest row, N trained tokens.
"""

from collections.abc import Sequence
from itertools import chain

import torch

from models.inputs.packing import PackedBatch
from rl.data.records import TokenisedChat


def pack_chats(rows: Sequence[Sequence[TokenisedChat]], pad_id: int) -> PackedBatch:
    """Lay rows of chats out on the CPU; no row at all makes filler.

    A chat's positions start at 0, it is a segment of its own, and `answers` is its place among all
    chats. Filler is one padding token with one target of weight 0, so that a rank without work
    still runs every module.
    """
    samples = list(chain.from_iterable(rows))
    if any(sample.trained[0] for sample in samples):
        raise ValueError("a chat's first token is to be trained, but nothing predicts it")
    size = (max(1, len(rows)), max([sum(len(s.ids) for s in row) for row in rows], default=1))
    ids_BT, positions_BT = torch.full(size, pad_id), torch.zeros(size, dtype=torch.int64)
    segments_BT = torch.full(size, -1 if rows else 1)
    trained_BT = torch.full(size, not rows)
    segment = 0
    for number, row in enumerate(rows):
        end = 0
        for sample in row:
            segment, begin, end = segment + 1, end, end + len(sample.ids)
            ids_BT[number, begin:end] = torch.tensor(sample.ids)
            positions_BT[number, begin:end] = torch.arange(end - begin)
            segments_BT[number, begin:end] = segment
            trained_BT[number, begin:end] = torch.tensor(sample.trained)
    targets_N = trained_BT.flatten().nonzero()[:, 0]
    weights_N = torch.full(targets_N.shape, 1.0 if rows else 0.0)
    return PackedBatch(
        input_ids=ids_BT,
        position_ids=positions_BT,
        in_prompt=segments_BT > 0,
        segments=segments_BT,
        sources=(targets_N - 1).clamp_min(0),
        targets=ids_BT.flatten()[targets_N],
        answers=segments_BT.flatten()[targets_N] - 1,
        weights=weights_N,
        advantages=weights_N,
        sampler_logprobs=None,
        reference_logprobs=None,
    )
