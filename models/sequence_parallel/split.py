"""A row's tokens dealt to the ranks that share it, at the door of the language model.

Every rank embeds the whole row, pictures included, and carries its own part of it through the
language model.

Axes: B rows, T tokens of a row, t of them on this rank, H hidden; N trained tokens, M of this rank.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.inputs.packing import PackedBatch
from models.routing.replay import CHOSEN
from models.sequence_parallel.group import SequenceGroup

GROUP = "sequence_group"
"""What attention functions are handed a row's ranks by."""

_BY_TOKEN = {
    "input_ids": 1,
    "inputs_embeds": 1,
    "position_ids": -1,
    "visual_pos_masks": 1,
    CHOSEN: 1,
}
"""Axes of T in what language models take; M-RoPE's position ids have one more in front."""


def split_tokens(model: Any, group: SequenceGroup) -> None:
    """Let the language part of a transformers model take whole rows, and read this rank's part.

    Its attention finds `group` among its arguments, and its states are [B, t, H].
    """
    own = partial(_own_arguments, group)
    model.get_decoder().register_forward_pre_hook(own, with_kwargs=True)


def _own_arguments(
    group: SequenceGroup, _: Any, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """This rank's part of a language model's arguments."""
    assert not args, "transformers' models hand their arguments on by name"
    own = dict(named)
    for name, axis in _BY_TOKEN.items():
        if (value := named.get(name)) is not None:
            part = group.own_part(value.shape[axis])
            own[name] = value.narrow(axis, part.start, part.stop - part.start)
    if named.get("deepstack_visual_embeds") is not None:
        own_BT = _own_places(named["visual_pos_masks"], group)
        own["deepstack_visual_embeds"] = [each[own_BT] for each in named["deepstack_visual_embeds"]]
    return args, own | {GROUP: group}


def _own_places(marked_BT: Tensor, group: SequenceGroup) -> Tensor:
    """bool over the True places of bool [B, T], row by row: which are this rank's."""
    own_BT = torch.zeros_like(marked_BT)
    own_BT[:, group.own_part(marked_BT.shape[1])] = True
    return own_BT[marked_BT]


def widened(batch: PackedBatch, group: SequenceGroup, pad_id: int) -> PackedBatch:
    """The batch with as much padding as lets the group's ranks divide its rows equally."""
    missing = -batch.input_ids.shape[1] % group.size
    return batch.widened(missing, pad_id) if missing else batch


def own_targets(batch: PackedBatch, group: SequenceGroup) -> tuple[Tensor, Tensor]:
    """Which of a batch's trained tokens this rank's part predicts.

    A token at the beginning of a part is predicted by the last one of the part before it.

    Returns:
        int64 [M] places among the N, and int64 [M] indices into B*t of the predicting positions.
    """
    width = batch.input_ids.shape[1]
    part = group.own_part(width)
    rows_N, columns_N = batch.sources // width, batch.sources % width
    own_N = (columns_N >= part.start) & (columns_N < part.stop)
    sources_N = rows_N * (part.stop - part.start) + columns_N - part.start
    return own_N.nonzero()[:, 0], sources_N[own_N]
