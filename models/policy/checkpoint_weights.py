"""A model's weights as others know them: adapters merged, under the names that a checkpoint has."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import Parameter
from transformers.core_model_loading import WeightConverter, revert_weight_conversion

from models.policy.lora import ADAPTER, is_adapter


@dataclass(frozen=True, slots=True)
class CheckpointWeight:
    """A weight as checkpoints and engines have it: a parameter, its adapter merged if it has one.

    Under ZeRO 3 `sources` must be gathered before `merged` is asked for.
    """

    parameter: Parameter
    """W, float [out, in] where there is an adapter."""
    down: Parameter | None = None
    """A, float [rank, in]."""
    up: Parameter | None = None
    """B, float [out, rank]."""
    scale: float = 0.0

    @property
    def sources(self) -> list[Parameter]:
        """The parameters that it is made of."""
        return [p for p in (self.parameter, self.down, self.up) if p is not None]

    @property
    def learns(self) -> bool:
        """Whether an update can change it."""
        return any(p.requires_grad for p in self.sources)

    def merged(self, precision: torch.dtype | None = None) -> Tensor:
        """W + scale * B A, worked out in float32, without gradient; W itself without an adapter.

        `precision`: of a merged weight; None: W's, in which a small change of a bfloat16 weight is
        lost where it is less than half the distance to the next bfloat16 number.
        """
        whole = self.parameter.detach()
        if self.down is None or self.up is None:
            return whole
        change = self.up.detach().float() @ self.down.detach().float()
        return (whole.float() + self.scale * change).to(precision or whole.dtype)


def checkpoint_weights(model: nn.Module) -> dict[str, CheckpointWeight]:
    """The model's weights by the names that it would have without adapters, tied ones once."""
    weights = {
        name.replace(".base_layer.", "."): CheckpointWeight(parameter)
        for name, parameter in model.named_parameters()
        if not is_adapter(name)
    }
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            own = f"{name}.weight"
            weights[own] = replace(
                weights[own],
                down=layer.lora_A[ADAPTER].weight,
                up=layer.lora_B[ADAPTER].weight,
                scale=layer.scaling[ADAPTER],
            )
    return weights


def saved_names(model: Any, names: Collection[str]) -> dict[str, str]:
    """What each weight of the model is called in the checkpoint that the model was read from.

    transformers renames some while it reads (CLIP's `vision_model.` goes, for one), and back while
    it saves; an engine, which reads the same checkpoint, knows them by the names in there. Where
    transformers also joined or cut weights, names stay as they are.
    """
    conversions = getattr(model, "_weight_conversions", None) or ()
    if any(isinstance(conversion, WeightConverter) for conversion in conversions):
        return {name: name for name in names}
    marked = {name: torch.tensor(i) for i, name in enumerate(names)}
    saved = {int(mark): name for name, mark in revert_weight_conversion(model, marked).items()}
    return {name: saved[i] for i, name in enumerate(names)}
