"""The learner's weights as vLLM's weight-transfer API reads them: layer by layer, summed."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

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
        weight that is sent in pieces counts once.

        In the order of `iter_groups`, which receivers of buffers cut what comes by: a projector
        that stands between two stacks of layers comes behind both.
        """
        sent = [name for name in self._weights if not self._sent or name in self._learning]
        return [name for group in layerwise_groups(sent) for name in group]

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
        return one_by_one(self.iter_groups())

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """One layer at a time: gathered, adapters merged, summed, handed on, and let go.

        Weights are summed whole, so that a piece that is not sent is missed in what engines hold.
        """
        self.bytes_sent = 0
        for group in layerwise_groups(self.names()):
            weights = [self._weights[name] for name in group]
            with self._gathered([source for weight in weights for source in weight.sources]):
                # Nothing here holds the layer while the next one is gathered.
                yield self._whole(group, weights)

    def _whole(
        self, group: list[str], weights: list[CheckpointWeight]
    ) -> tuple[list[str], list[Tensor]]:
        sent: dict[str, Tensor] = {}
        for name, weight in zip(group, weights, strict=True):
            tensor = weight.merged(self._precision)
            self.sums[name] = sum_and_squares(tensor)
            sent |= weight.pieces(name, tensor)
        self.bytes_sent += sum(tensor.nbytes for tensor in sent.values())
        return list(sent), list(sent.values())

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


def one_by_one(groups: Iterator[tuple[list[str], list[Tensor]]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of each layer by itself, ordered for who reads it on a CUDA stream of its own.

    A layer is made whole on the stream of who asks for its first tensor. vLLM's `nccl` sender asks
    on two streams by turns, a buffer on each, and only queues its copies: those of a layer that
    lies in two buffers read on one stream what was made on the other. So the reading stream waits
    until the layer was made; and the allocator, which would give memory that was let go to the next
    layer on the stream that made this one, waits for the copies that were queued by then. Nobody
    else waits: one buffer travels while the next layers are gathered.
    """
    for names, tensors in groups:
        made = _Made.now() if tensors[0].is_cuda else None
        left = deque(zip(names, tensors, strict=True))
        del tensors  # who reads them decides how long they are held
        while left:
            if made is not None:
                made.let_read(left[0][1])
            yield left.popleft()


class _Made:
    """Where and when a layer was made whole."""

    def __init__(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        self._stream = stream
        self._event = event

    @classmethod
    def now(cls) -> Self:
        stream = torch.cuda.current_stream()
        return cls(stream, stream.record_event())

    def let_read(self, tensor: Tensor) -> None:
        """Order what the current stream will do with a tensor of the layer."""
        reader = torch.cuda.current_stream()
        if reader != self._stream:
            reader.wait_event(self._event)
            tensor.record_stream(reader)


class ResumableSource(WeightSource):
    """A source whose passes can be brought to their end by somebody else than who began them."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._begun: Iterator[tuple[list[str], list[Tensor]]] | None = None

    def metadata(self) -> list[ParamMeta]:
        """As the source's."""
        return self._source.metadata()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return one_by_one(self.iter_groups())

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """As the source's; what the caller leaves stays for `drain`."""
        begun = self._begun = self._source.iter_groups()
        while True:
            try:
                yield next(begun)
            except StopIteration:
                return

    def begin(self) -> None:
        """A new round: its pass has not begun."""
        self._begun = None

    def drain(self) -> None:
        """Gather what is left of the pass: the other ranks gather too, and wait for this one."""
        for _ in self._begun or self._source.iter_groups():
            pass
