"""What the routers of a mixture of experts choose by themselves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.inputs.packing import PackedBatch
from rl.algorithms.rows import TrainingRow


@torch.no_grad()
def own_choices(forward: Callable[[PackedBatch], Any], model: Any, batch: PackedBatch) -> Tensor:
    """int64 [T, layers, K] of a batch of one row, in the routers' own order.

    `forward`: of the policy around the transformers model.
    """
    chosen: list[Tensor] = []
    gates = [layer.mlp.gate for layer in model.get_decoder().layers]
    hooks = [gate.register_forward_hook(lambda *a: chosen.append(a[2][2])) for gate in gates]
    forward(replace(batch, experts=None))
    for hook in hooks:
        hook.remove()
    return torch.stack(chosen, dim=1)[: batch.input_ids.shape[1]]  # a dummy image stands behind


def with_choices(row: TrainingRow, chosen: Tensor) -> TrainingRow:
    """The row with int [T, layers, K] of its tokens dealt to its prompt and its answers."""
    parts = np.split(chosen.numpy().astype(np.uint8), np.cumsum(row.lengths)[:-1])
    answers = zip(row.answers, parts[1:], strict=True)
    return replace(
        row,
        prompt_experts=parts[0],
        answers=tuple(replace(answer, experts=own) for answer, own in answers),
    )
