"""From learner to engines: gather, send over vLLM's weight-transfer API, and sum what was sent."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import ray
import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.distributed.weight_transfer import (
    ParamMeta,
    RayVLLMWeightSyncClient,
    TrainerWeightTransferEngine,
    WeightSource,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    WeightTransferInitRequest,
)

from actors.engine_extensions import sum_and_squares
from actors.weight_engines import GlooTrainerInit, register

Transport = Literal["nccl", "ipc", "gloo"]
_IPC_BUFFER_BYTES = 2**30

Gather = Callable[[Sequence[Tensor]], AbstractContextManager[Any]]
WeightSums = dict[str, tuple[float, float]]
"""Checkpoint name -> (sum, sum of squares) in float64 of the tensor as sent."""


class PolicySource(WeightSource):
    """The policy's weights in checkpoint names, one layer whole at a time, summed on the way."""

    def __init__(self, named: Sequence[tuple[str, Parameter]], gathered: Gather) -> None:
        self._named = dict(named)
        self._gathered = gathered
        self._sent: set[str] = set()
        self.sums: WeightSums = {}

    def names(self) -> list[str]:
        """What the next round sends: everything at first, then what learns."""
        first = not self._sent
        return [name for name, p in self._named.items() if first or p.requires_grad]

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and full shapes, without gathering."""
        return [ParamMeta(name, p.dtype, _full_shape(p)) for name, p in self._round()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for names, tensors in self.iter_groups():
            yield from zip(names, tensors, strict=True)

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """One layer at a time: gathered, summed, handed on, and let go."""
        for group in self.groups():
            parameters = [self._named[name] for name in group]
            with self._gathered(parameters):
                tensors = [p.detach() for p in parameters]
                self.sums |= {n: sum_and_squares(t) for n, t in zip(group, tensors, strict=True)}
                yield group, tensors

    def finish(self) -> None:
        """Remember that a round is over."""
        self._sent.update(self.names())

    def _round(self) -> list[tuple[str, Parameter]]:
        return [(name, self._named[name]) for name in self.names()]


def _full_shape(parameter: Parameter) -> tuple[int, ...]:
    # ZeRO 3 leaves an empty shard behind and keeps the true shape beside it.
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


class _Client(RayVLLMWeightSyncClient):
    """vLLM's client over Ray, for several engines that are strangers to each other.

    Each engine counts its own ranks from 0, so each is told a different offset in the group.
    """

    def __init__(self, handles: list[Any], ranks_per_engine: int) -> None:
        super().__init__(handles)
        self._ranks_per_engine = ranks_per_engine

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        offset = init_info.get("rank_offset")
        calls: list[Any] = []
        for i, handle in enumerate(self.handles):
            own = dict(init_info)
            if offset is not None:
                own["rank_offset"] = offset + i * self._ranks_per_engine
            calls.append(handle.init_weight_transfer_engine.remote(WeightTransferInitRequest(own)))
        ray.get(calls)


@dataclass
class WeightSender:
    """One learner rank's end of the transfer to all engines."""

    transport: Transport
    engines: list[Any]
    """Handles of the rollout actors."""
    ranks_per_engine: int
    address: str
    port: int

    def open(self, named: Sequence[tuple[str, Parameter]], rank: int, gathered: Gather) -> None:
        """Meet the engines. Called on every learner rank; rank 0 sends."""
        register()
        self._source = PolicySource(named, gathered)
        self._trainer: TrainerWeightTransferEngine[Any] = WeightTransferTrainerFactory.trainer_init(
            self._init_info(rank),
            client=_Client(self.engines, self.ranks_per_engine),
            source=self._source,
        )

    def _init_info(self, rank: int) -> TrainerInitInfo:
        world = 1 + len(self.engines) * self.ranks_per_engine
        if self.transport == "gloo":
            return GlooTrainerInit(self.address, self.port, world, rank=rank)
        if self.transport == "nccl":
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

            return NCCLTrainerInitInfo(self.address, self.port, world, rank=rank)
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        # Packed buffers refuse tensors larger than they are, and embeddings can be.
        largest = max(m.dtype.itemsize * math.prod(m.shape) for m in self._source.metadata())
        size = max(_IPC_BUFFER_BYTES, largest)
        return IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=size, rank=rank)

    def send(self) -> WeightSums:
        """One round to all engines; returns the sums of every weight, sent now or before."""
        with torch.no_grad():
            self._trainer.send_weights()
        self._source.finish()
        return dict(self._source.sums)

    def close(self) -> None:
        """Leave the group."""
        self._trainer.shutdown()
