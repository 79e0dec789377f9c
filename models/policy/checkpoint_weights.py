"""A model's weights as others know them: adapters merged, under the names that a checkpoint has."""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import Parameter
from transformers.core_model_loading import WeightConverter, revert_weight_conversion

from models.policy.lora import ADAPTER, is_adapter, peft_name

MERGED_AT_A_TIME = 2**22
"""Values of a weight that lie in float32 at a time while an adapter is merged into it."""


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
    apart: Callable[[Tensor], dict[str, Tensor]] | None = None
    """What a checkpoint has in place of the whole weight, by name; None: the whole weight."""

    def pieces(self, name: str, whole: Tensor) -> dict[str, Tensor]:
        """`whole`, this weight merged, as a checkpoint has it; `name` is what it goes by."""
        return {name: whole} if self.apart is None else self.apart(whole)

    @property
    def sources(self) -> list[Parameter]:
        """The parameters that it is made of."""
        return [p for p in (self.parameter, self.down, self.up) if p is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        """W's, known without gathering: ZeRO 3 leaves an empty shard behind, and it beside that."""
        return tuple(getattr(self.parameter, "ds_shape", self.parameter.shape))

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
        merged = torch.empty_like(whole, dtype=precision or whole.dtype)
        down = self.down.detach().float()
        rows = max(1, MERGED_AT_A_TIME // whole.shape[1])
        for into, own, up in zip(
            *(each.split(rows) for each in (merged, whole, self.up.detach())), strict=True
        ):
            into.copy_((up.float() @ down).mul_(self.scale).add_(own))
        return merged


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
    if _joins_or_cuts(model):
        return {name: name for name in names}
    marked = {name: torch.tensor(i) for i, name in enumerate(names)}
    saved = {int(mark): name for name, mark in revert_weight_conversion(model, marked).items()}
    return {name: saved[i] for i, name in enumerate(names)}


def _joins_or_cuts(model: Any) -> bool:
    """Whether transformers did more than rename the weights that it read."""
    conversions = getattr(model, "_weight_conversions", None) or ()
    return any(isinstance(conversion, WeightConverter) for conversion in conversions)


def sent_weights(model: Any) -> dict[str, CheckpointWeight]:
    """The model's weights by the names that engines know them by: those of the checkpoint that it
    was read from, where transformers may have joined some (a layer's experts) while it read.

    A weight that lies there in pieces goes by the name of the first. Where transformers cut weights
    while it read, names stay as they are.
    """
    weights = checkpoint_weights(model)
    if not _joins_or_cuts(model):
        names = saved_names(model, weights)
        return {names[name]: weight for name, weight in weights.items()}
    if any(len(c.target_patterns) > 1 for c in model._weight_conversions):
        return weights
    sent: dict[str, CheckpointWeight] = {}
    for name, weight in weights.items():
        blank = _empty(weight)
        saved, first = next(iter(_reverted(model, {name: blank}).items()))
        apart = None if first is blank else partial(_apart, model, name)
        sent[saved] = replace(weight, apart=apart)
    return sent


def _apart(model: Any, name: str, whole: Tensor) -> dict[str, Tensor]:
    return _reverted(model, {name: whole})


def _reverted(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint has in place of weights of the model."""
    with experts_as_published(model):
        return revert_weight_conversion(model, tensors)


@contextmanager
def experts_as_published(model: Any) -> Generator[None]:
    """For a while, what transformers turned round while it read, it turns back while it saves.

    It reads Qwen3-VL's experts, published as [expert, in, out], as [expert, out, in], and turns
    them back only where the model's own shape is another than theirs, which it never is unless ZeRO
    3 hides it. Engines know the published layout alone.
    """
    model.get_parameter = lambda _: _NO_SHAPE  # the only thing that it asks the model for
    try:
        yield
    finally:
        del model.get_parameter


_NO_SHAPE = torch.empty(0)


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """Some of a model's weights, and what a checkpoint has of them: mostly one, and the same."""

    weights: Mapping[str, CheckpointWeight]
    """By the model's names."""
    saved: Mapping[str, Tensor]
    """On the meta device, by the checkpoint's names."""
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    """Makes of tensors by the model's names those by the checkpoint's."""

    @property
    def sources(self) -> list[Parameter]:
        """The parameters that must be gathered before `made` is asked for."""
        return [source for weight in self.weights.values() for source in weight.sources]

    def made(self) -> dict[str, Tensor]:
        """The checkpoint's tensors on the host; those that were there already may be the weights
        themselves."""
        own = {name: weight.merged() for name, weight in self.weights.items()}
        return {name: tensor.cpu() for name, tensor in self.convert(own).items()}


def saved_weights(model: Any) -> list[SavedWeights]:
    """The model's weights as their publisher would write them, in the smallest groups that can be
    made each by itself."""
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    whole = checkpoint_weights(model) | _saved_buffers(model)
    weights = {n: w for n, w in whole.items() if n not in ignored}
    if not _joins_or_cuts(model):
        names = saved_names(model, weights)
        return [_renamed(name, weight, names[name]) for name, weight in weights.items()]
    convert = partial(_reverted, model)
    empty = {name: _empty(weight) for name, weight in weights.items()}
    return [
        SavedWeights({name: weights[name] for name in group}, saved, convert)
        for group, saved in _groups(empty, convert)
    ]


def _saved_buffers(model: nn.Module) -> dict[str, CheckpointWeight]:
    """Tensors of a checkpoint that no optimizer knows, such as what balances a router's choices."""
    buffers = dict(model.named_buffers())
    return {
        name.replace(".base_layer.", "."): CheckpointWeight(Parameter(buffers[name], False))
        for name in model.state_dict()
        if name in buffers
    }


def saved_adapters(model: nn.Module) -> list[SavedWeights]:
    """The model's adapters as peft writes them."""
    return [
        _renamed(name, CheckpointWeight(parameter), peft_name(name))
        for name, parameter in model.named_parameters()
        if is_adapter(name)
    ]


def _renamed(name: str, weight: CheckpointWeight, saved: str) -> SavedWeights:
    return SavedWeights({name: weight}, {saved: _empty(weight)}, lambda own: {saved: own[name]})


def _empty(weight: CheckpointWeight) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.parameter.dtype, device="meta")


def _groups(
    tensors: dict[str, Tensor], convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Names that convert together, and what becomes of them: single ones, else those of a layer;
    last all that are left."""
    whole = {name: _look(tensor) for name, tensor in convert(dict(tensors)).items()}
    left = list(tensors)
    for key in (str, _layer):
        alike: dict[str, list[str]] = {}
        for name in left:
            alike.setdefault(key(name), []).append(name)
        left = []
        for group in alike.values():
            found = _tried(convert, {name: tensors[name] for name in group})
            if found and all(whole.get(name) == _look(tensor) for name, tensor in found.items()):
                yield group, found
            else:
                left += group
    if left:
        yield left, convert({name: tensors[name] for name in left})


def _tried(
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]], tensors: dict[str, Tensor]
) -> dict[str, Tensor] | None:
    """None: these tensors alone are not enough."""
    try:
        return convert(tensors)
    except (ValueError, RuntimeError, LookupError):
        return None


def _look(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _layer(name: str) -> str:
    """`layers.0.self_attn` of its `q_proj.weight`."""
    return ".".join(name.split(".")[:-2])
