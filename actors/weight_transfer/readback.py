"""What runs inside vLLM's worker processes: reading weights back, and what images may be."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.models.utils import WeightsMapper

from models.policy.weight_sums import WeightSums, sum_and_squares, weight_group


class WeightReadback:
    """vLLM worker extension: tells what weights the engine holds, and lets it take embeddings."""

    model_runner: Any
    _weight_update_active: bool
    finish_weight_update: Callable[[], None]

    def ping(self) -> None:
        """Return at once: this rank lives."""

    def end_update(self) -> None:
        """End an update that was begun and whose weights never came; vLLM allows one at a time."""
        if self._weight_update_active:
            self.finish_weight_update()

    def batch_embeddings_of_any_length(self) -> None:
        """From now on let images of different numbers of tokens come as embeddings in one pass.

        vLLM's check of a batch wants them alike, and nothing behind it does. It has checked their
        width and their tokens' number in the prompt when they came.
        """
        from vllm.model_executor.models import interns1

        interns1.InternS1ImageEmbeddingInputs.validate = _accept

    def loose_tensors(self) -> list[str]:
        """Where the model keeps tensors beside its weights and buffers. No update brings those, so
        they are lost where memory is given back with nothing kept."""
        model: nn.Module = self.model_runner.get_model()
        return [
            f"{path}.{name}"
            for path, module in model.named_modules()
            for name, value in vars(module).items()
            if name not in _NO_LOSS and _holds_tensors(value)
        ]

    def weight_groups(self, names: Sequence[str]) -> dict[str, str]:
        """For each checkpoint name the engine's weight group that it is loaded into."""
        model: Any = self.model_runner.get_model()
        mapper = getattr(model, "hf_to_vllm_mapper", None) or WeightsMapper()
        mapped = [mapper._map_name(name) for name in names]
        return {
            name: weight_group(to) for name, to in zip(names, mapped, strict=True) if to is not None
        }

    def weight_sums(self) -> dict[str, tuple[float, float]]:
        """For each weight group (sum, sum of squares) in float64 of this rank's share.

        Shares add up over tensor-parallel ranks: what every rank holds whole counts on rank 0.
        """
        model: nn.Module = self.model_runner.get_model()
        sums = WeightSums()
        for name, tensor, share in _held(model):
            sums.add(weight_group(name), sum_and_squares(tensor), share)
        return dict(sums)  # vLLM's messages know plain types only


def _accept(embeddings: Any) -> None:
    """Whatever they are."""


_NO_LOSS = {
    *("_parameters", "_buffers", "_modules"),  # an update brings the first, vLLM keeps the second
    "kv_cache",  # nobody wants it of old weights
    *("_k_scale_cpu", "_v_scale_cpu"),  # for ROCm, on the host
}
"""Attributes of vLLM's modules whose tensors nobody misses when memory was given back."""


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(each) for each in value)
    return isinstance(value, Tensor)


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor, float]]:
    """Each parameter once, with the share of it that this rank answers for."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:  # tied: the checkpoint has it once too
                continue
            seen.add(id(parameter))
            name = f"{path}.{own}" if path else own
            for piece, share in _shares(module, own, parameter):
                yield name, piece, share


def _shares(module: Any, own: str, parameter: Tensor) -> list[tuple[Tensor, float]]:
    """How much of a parameter this rank answers for, under tensor parallelism."""
    if isinstance(module, RoutedExperts):  # a slice of each expert, or some experts whole
        return [(parameter, 1.0)]
    if getattr(module, "tp_size", 1) == 1:
        from vllm.distributed import get_tensor_model_parallel_rank

        return [(parameter, float(get_tensor_model_parallel_rank() == 0))]
    if isinstance(module, QKVParallelLinear) and module.num_kv_head_replicas > 1:
        queries = module.num_heads * module.head_size
        return [
            (parameter[:queries], 1.0),
            (parameter[queries:], 1.0 / module.num_kv_head_replicas),
        ]
    sharded = isinstance(module, (ColumnParallelLinear, VocabParallelEmbedding)) or (
        isinstance(module, RowParallelLinear) and own == "weight"
    )
    return [(parameter, 1.0 if sharded else float(module.tp_rank == 0))]
