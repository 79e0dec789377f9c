"""The learner's weights as vLLM's weight-transfer API reads them: layer by layer, summed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.base import layerwise_groups

from models.policy.checkpoint_weights import CheckpointWeight
from models.policy.weight_sums import WeightSums, sum_and_squares

Gather = Callable[[Sequence[Tensor]], AbstractContextManager[Any]]


class PolicySource(WeightSource):
    """The policy's weights in checkpoint names, one layer whole at a time, summed on the way."""

    def __init__(
        self,
        weights: Mapping[str, CheckpointWeight],
        gathered: Gather,
        precision: torch.dtype | None = None,
    ) -> None:
        """`precision`: of weights that an adapter was merged into; None: as without one."""
        self._weights = weights
        self._shapes = {name: _shapes(name, weight) for name, weight in weights.items()}
        self._learning = _with_siblings(weights)
        self._gathered = gathered
        self._precision = precision
        self._sent: set[str] = set()
        self.sums: WeightSums = {}
        self.bytes_sent = 0
        """In the newest round."""

    @property
    def all_learn(self) -> bool:
        """Whether each round sends every weight."""
        return len(self._learning) == len(self._weights)

    def names(self) -> list[str]:
        """What the next round sends: everything at first, then what learns, and its siblings. A
        weight that is sent in pieces counts once."""
        return [name for name in self._weights if not self._sent or name in self._learning]

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and full shapes, without gathering."""
        return [
            ParamMeta(piece, self._dtype(self._weights[name]), shape)
            for name in self.names()
            for piece, shape in self._shapes[name].items()
        ]

    def _dtype(self, weight: CheckpointWeight) -> torch.dtype:
        adapted = weight.down is not None
        return self._precision if adapted and self._precision else weight.parameter.dtype

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for names, tensors in self.iter_groups():
            yield from zip(names, tensors, strict=True)

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """One layer at a time: gathered, adapters merged, summed, handed on, and let go.

        Weights are summed whole, so that a piece that is not sent is missed in what engines hold.
        """
        self.bytes_sent = 0
        for group in layerwise_groups(self.names()):
            weights = [self._weights[name] for name in group]
            with self._gathered([source for weight in weights for source in weight.sources]):
                whole = [weight.merged(self._precision) for weight in weights]
                self.sums |= {n: sum_and_squares(t) for n, t in zip(group, whole, strict=True)}
                sent: dict[str, Tensor] = {}
                for name, weight, tensor in zip(group, weights, whole, strict=True):
                    sent |= weight.pieces(name, tensor)
                self.bytes_sent += sum(tensor.nbytes for tensor in sent.values())
                yield list(sent), list(sent.values())
                if whole[0].is_cuda:
                    # Transports copy on streams of their own, and what was gathered or merged is
                    # let go now.
                    torch.cuda.synchronize()

    def finish(self) -> None:
        """Remember that a round is over."""
        self._sent.update(self.names())


def _with_siblings(weights: Mapping[str, CheckpointWeight]) -> set[str]:
    """What learns, and what else lies in the same modules.

    Engines fuse siblings (q, k and v; gate and up) into one parameter. vLLM's layerwise reload
    makes a parameter anew where any part of it comes, and leaves the rest of it uninitialised.
    """
    learning = {_module(name) for name, weight in weights.items() if weight.learns}
    return {name for name in weights if _module(name) in learning}


def _module(name: str) -> str:
    """The module that holds the layer of a weight: `layers.0.self_attn` of its `q_proj.weight`."""
    return ".".join(name.split(".")[:-2])


def _shapes(name: str, weight: CheckpointWeight) -> dict[str, tuple[int, ...]]:
    """Of its pieces."""
    pieces = weight.pieces(name, torch.empty(weight.shape, device="meta"))
    return {piece: tuple(blank.shape) for piece, blank in pieces.items()}


class ResumableSource(WeightSource):
    """A source whose passes can be brought to their end by somebody else than who began them."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._begun: Iterator[tuple[list[str], list[Tensor]]] | None = None

    def metadata(self) -> list[ParamMeta]:
        """As the source's."""
        return self._source.metadata()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for names, tensors in self.iter_groups():
            yield from zip(names, tensors, strict=True)

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """As the source's; what the caller leaves stays for `drain`."""
        begun = self._begun = self._source.iter_groups()
        while (group := next(begun, None)) is not None:
            yield group

    def begin(self) -> None:
        """A new round: its pass has not begun."""
        self._begun = None

    def drain(self) -> None:
        """Gather what is left of the pass: the other ranks gather too, and wait for this one."""
        for _ in self._begun or self._source.iter_groups():
            pass
