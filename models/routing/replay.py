"""Routing replay: a token goes to the experts that the sampler sent it to (R3, arXiv:2510.11370).

Near a tie learner and engine choose different experts, and the token's logprob jumps. Replayed are
the choices alone: what each chosen expert counts is the learner's own router's word, so that the
router learns.

Axes: B rows, T tokens of a row, L layers of the model, K experts of a token, E experts of a layer.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

CHOSEN = "chosen_experts"
"""What language models and their layers are handed the choices by, int16 [B, T, L, K]."""
NOBODY = -1
"""In place of an expert: the learner chooses itself."""

REPLAYING = ("qwen3_moe", "qwen3_vl_moe_text")
"""Language models, by their config's `model_type`, whose routers can be told."""


def replay_choices(model: Any) -> None:
    """Let the language part of a transformers model take `chosen_experts`, if it routes tokens."""
    if model.config.get_text_config().model_type not in REPLAYING:
        return
    for number, layer in enumerate(model.get_decoder().layers):
        layer.register_forward_pre_hook(partial(_hand_down, number), with_kwargs=True)
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.register_forward_hook(_replay)


def _hand_down(
    number: int, layer: Any, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the router its layer's choices. Where activations are made again in the backward pass
    the layer is called again with the same arguments, so the same choices come here again."""
    own = dict(named)
    chosen = own.pop(CHOSEN, None)
    if hasattr(layer.mlp, "gate"):
        layer.mlp.gate.chosen = None if chosen is None else chosen[:, :, number].flatten(0, 1)
    return args, own


def _replay(
    gate: Any, _: tuple[Any, ...], made: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """In place of a router's logits [N, E], weights [N, K] and choices int64 [N, K]."""
    chosen, gate.chosen = getattr(gate, "chosen", None), None
    if chosen is None:
        return None
    logits, weights, own = made
    taken = torch.where(chosen == NOBODY, own, chosen.long())
    shares = logits.softmax(dim=-1, dtype=torch.float32).gather(-1, taken)
    if getattr(gate, "norm_topk_prob", True):  # Qwen3-VL's always does
        shares = shares / shares.sum(dim=-1, keepdim=True)
    return logits, shares.to(weights.dtype), taken
