"""Arithmetic of a training step, as model FLOPs utilisation counts it."""

from typing import Any

import torch

from models.inputs.packing import PackedBatch
from models.policy.parts import part_of

_PEAK_TFLOPS = {
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H200": 989.0,
    "NVIDIA B200": 2250.0,
}
"""Dense bfloat16 by the makers' data sheets."""


def peak_flops(tflops: float | None, dtype: str) -> float | None:
    """FLOP/s that this process's device could do at most: `tflops`, the recipe's, or a known GPU's
    in bfloat16; None: not known."""
    if tflops is None and dtype == "bfloat16" and torch.cuda.is_available():
        tflops = _PEAK_TFLOPS.get(torch.cuda.get_device_name())
    return None if tflops is None else 1e12 * tflops


class TrainingFlops:
    """FLOPs of the language model forward and backward; what is computed again for gradient
    checkpointing does not count, nor does the vision tower (PaLM, arXiv:2204.02311, appendix B).

    A weight takes part in a multiplication and an addition for each token on the way forward, as
    many for the gradient of what it was multiplied with, and as many for its own if it learns. Of a
    layer's experts those count that a token goes to.
    """

    def __init__(self, model: Any) -> None:
        """`model`: the transformers model with whole weights, before they are sharded."""
        ends = [model.get_input_embeddings(), model.get_output_embeddings()]
        outside = {id(end.weight) for end in ends}
        body = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.ndim > 1 and part_of(name) != "vision" and id(parameter) not in outside
        ]
        text = model.config.get_text_config()
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        chosen = getattr(text, "num_experts_per_tok", None)
        self._a_token = sum(_flops(weight) * _busy(weight, chosen) for weight in body)
        self._an_output = _flops(ends[1].weight)
        # Queries with keys, weights with values: forward once, backward twice.
        self._a_pair = 12 * text.num_hidden_layers * text.num_attention_heads * head_dim

    def __call__(self, batch: PackedBatch) -> tuple[int, float]:
        """Tokens of a batch, padding left out, and the FLOPs of its forward and backward pass."""
        real_BT = batch.segments >= 0
        tokens = int(real_BT.sum())
        pairs = int((batch.position_ids + 1)[real_BT].sum())
        outputs = len(batch.targets)
        flops = tokens * self._a_token + pairs * self._a_pair + outputs * self._an_output
        return tokens, float(flops)


def _busy(weight: torch.Tensor, chosen: int | None) -> float:
    """The share of a weight that a token meets; `chosen`: experts that it goes to, of those that
    transformers joins as [expert, out, in]."""
    return chosen / len(weight) if chosen and weight.ndim == 3 else 1


def _flops(weight: torch.Tensor) -> int:
    return weight.numel() * (6 if weight.requires_grad else 4)
