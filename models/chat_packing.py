"""Chats as tensors: one behind another in a single row, each blind to the others.

Axes: B = 1 row, T tokens, N trained tokens.
"""

from collections.abc import Sequence

import torch

from models.packing import PackedBatch
from rl.records import TokenisedChat


def pack_chats(samples: Sequence[TokenisedChat], pad_id: int) -> PackedBatch:
    """Lay chats out on the CPU; no sample at all makes filler.

    A chat's positions start at 0, it is a segment of its own, and `answers` is its place among
    `samples`. Filler is one padding token with one target of weight 0, so that a rank without work
    still runs every module.
    """
    ids = [i for sample in samples for i in sample.ids] or [pad_id]
    positions = [p for sample in samples for p in range(len(sample.ids))] or [0]
    segments = [k for k, sample in enumerate(samples, 1) for _ in sample.ids] or [1]
    trained = [t for sample in samples for t in sample.trained] or [False]
    if any(sample.trained[0] for sample in samples):
        raise ValueError("a chat's first token is to be trained, but nothing predicts it")
    row = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "segments": torch.tensor([segments]),
    }
    targets = torch.tensor(trained).nonzero()[:, 0] if samples else torch.tensor([0])
    weights = torch.full(targets.shape, 1.0 if samples else 0.0)
    return PackedBatch(
        **row,
        in_prompt=torch.ones(1, len(ids), dtype=torch.bool),
        sources=(targets - 1).clamp_min(0),
        targets=row["input_ids"][0, targets],
        answers=row["segments"][0, targets] - 1,
        weights=weights,
        advantages=weights,
        sampler_logprobs=None,
        reference_logprobs=None,
    )
