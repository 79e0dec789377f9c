"""Experts of engines on CPU as plain matrix products, on weights that lie as they were loaded.

vLLM's kernel wants a layer's experts packed, and vLLM packs them behind the first load only: what a
later update brings would be read as if it were packed, and no sum of weights would tell.
"""

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def use_plain_experts() -> None:
    """Let engines that start in this process from now on neither pack experts nor want them so."""
    operators = importlib.import_module("vllm._custom_ops")
    operators.cpu_prepack_moe_weight = lambda weight, isa: weight
    operators.cpu_fused_moe = _in_place_of_the_kernel


def _in_place_of_the_kernel(
    out: Tensor, states: Tensor, w13: Tensor, w2: Tensor, *others: Any
) -> None:
    """`vllm._custom_ops.cpu_fused_moe`."""
    w13_bias, w2_bias, weights, experts, act, _, *skip_weighted = others
    if act != "silu" or w13_bias is not None or w2_bias is not None:
        raise ValueError(f"experts with biases, or with the activation {act!r}, run on GPUs only")
    if any(skip_weighted):  # they are in the states already
        weights = torch.ones_like(weights)
    plain_experts(out, states, w13, w2, weights, experts)


# An operator, as compilers cannot follow how many tokens each expert gets.
@torch.library.custom_op("r1v_ray::plain_experts", mutates_args=("out",))
def plain_experts(
    out: Tensor, states: Tensor, w13: Tensor, w2: Tensor, weights: Tensor, experts: Tensor
) -> None:
    """Write the weighted sum of what each token's experts make of it: W2 (silu(G x) * (U x)).

    Args:
        out: float [N, H], written.
        states: float [N, H], x of N tokens.
        w13: float [E, 2I, H], G above U.
        w2: float [E, H, I].
        weights: float32 [N, K].
        experts: int [N, K], whom each token goes to.
    """
    total = torch.zeros(states.shape, dtype=torch.float32)
    for expert in experts.unique().tolist():
        tokens, places = torch.where(experts == expert)
        gate, up = F.linear(states[tokens], w13[expert]).chunk(2, dim=-1)
        made = F.linear(F.silu(gate) * up, w2[expert]).float()
        total.index_add_(0, tokens, made * weights[tokens, places, None])
    out.copy_(total)
