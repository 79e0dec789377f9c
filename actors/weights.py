"""From learner to engines: gather, send over vLLM's weight-transfer API, and sum what was sent."""

import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import ray
import torch
from torch import Tensor
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
    WeightTransferUpdateRequest,
)

from actors.meeting import Meeting
from actors.weight_engines import GlooTrainerInit, register
from models.weight_sums import WeightSums, sum_and_squares
from models.weights import CheckpointWeight

_IPC_BUFFER_BYTES = 2**30

Gather = Callable[[Sequence[Tensor]], AbstractContextManager[Any]]


class PolicySource(WeightSource):
    """The policy's weights in checkpoint names, one layer whole at a time, summed on the way."""

    def __init__(self, weights: Mapping[str, CheckpointWeight], gathered: Gather) -> None:
        self._weights = weights
        self._gathered = gathered
        self._sent: set[str] = set()
        self.sums: WeightSums = {}

    def names(self) -> list[str]:
        """What the next round sends: everything at first, then what learns."""
        first = not self._sent
        return [name for name, weight in self._weights.items() if first or weight.learns]

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and full shapes, without gathering."""
        sent = [(name, self._weights[name].parameter) for name in self.names()]
        return [ParamMeta(name, p.dtype, _full_shape(p)) for name, p in sent]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for names, tensors in self.iter_groups():
            yield from zip(names, tensors, strict=True)

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        """One layer at a time: gathered, adapters merged, summed, handed on, and let go."""
        for group in self.groups():
            weights = [self._weights[name] for name in group]
            with self._gathered([source for weight in weights for source in weight.sources]):
                tensors = [weight.merged() for weight in weights]
                self.sums |= {n: sum_and_squares(t) for n, t in zip(group, tensors, strict=True)}
                yield group, tensors
                if tensors[0].is_cuda:
                    # Transports copy on streams of their own, and what was gathered or merged is
                    # let go now.
                    torch.cuda.synchronize()

    def finish(self) -> None:
        """Remember that a round is over."""
        self._sent.update(self.names())


def _full_shape(parameter: Tensor) -> tuple[int, ...]:
    # ZeRO 3 leaves an empty shard behind and keeps the true shape beside it.
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


class _Whole(WeightSource):
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


class _Client(RayVLLMWeightSyncClient):
    """vLLM's client over Ray, for several engines that are strangers to each other.

    Each engine counts its own ranks from 0, so each is told a different offset in the group. The
    first engine that fails or dies ends a call, whatever the others do: they may wait for it.
    """

    def __init__(
        self, handles: list[Any], ranks_per_engine: int, on_failure: Callable[[], object]
    ) -> None:
        """`on_failure` is called when engines could not receive, on the thread that waits."""
        super().__init__(handles)
        self._ranks_per_engine = ranks_per_engine
        self._on_failure = on_failure

    def start_weight_update(self) -> None:
        _first_fault([handle.start_weight_update.remote() for handle in self.handles])

    def update_weights(self, update_info: Any) -> None:
        request = WeightTransferUpdateRequest(update_info)
        try:
            _first_fault([handle.update_weights.remote(request) for handle in self.handles])
        except Exception:
            self._on_failure()
            raise

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        _first_fault([handle.finish_weight_update.remote() for handle in self.handles])

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        offset = init_info.get("rank_offset")
        calls: list[Any] = []
        for i, handle in enumerate(self.handles):
            own = dict(init_info)
            if offset is not None:
                own["rank_offset"] = offset + i * self._ranks_per_engine
            calls.append(handle.init_weight_transfer_engine.remote(WeightTransferInitRequest(own)))
        _first_fault(calls)


def _first_fault(calls: list[Any]) -> None:
    """Wait for all calls, or until one fails: `ray.get` alone would wait for them in order."""
    while calls:
        done, calls = ray.wait(calls)
        ray.get(done)


def _free_address() -> tuple[str, int]:
    """This node's address and a port that nobody uses now, to be taken at once."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


class WeightSender:
    """One learner rank's end of the transfer to all engines."""

    def __init__(
        self,
        meeting: Meeting,
        weights: Mapping[str, CheckpointWeight],
        rank: int,
        gathered: Gather,
    ) -> None:
        """Meet the engines. Called on every learner rank; rank 0 sends."""
        register()
        self._meeting = meeting
        self._source = PolicySource(weights, gathered)
        self._whole = _Whole(self._source)
        self._trainer: TrainerWeightTransferEngine[Any] = WeightTransferTrainerFactory.trainer_init(
            self._init_info(rank),
            client=_Client(meeting.engines, meeting.ranks_per_engine, self._let_go),
            source=self._whole,
        )

    def _let_go(self) -> None:
        """Free rank 0 from a broadcast that a dead engine will never join: NCCL would wait for
        ever. Gloo need not be told, for the dead have closed their sockets."""
        group = getattr(self._trainer, "model_update_group", None)
        if self._meeting.transport == "nccl" and group is not None:
            group.destroy()

    def _init_info(self, rank: int) -> TrainerInitInfo:
        meeting = self._meeting
        world = 1 + len(meeting.engines) * meeting.ranks_per_engine
        if meeting.transport == "gloo":
            return GlooTrainerInit(ray.util.get_node_ip_address(), world, rank=rank)
        if meeting.transport == "nccl":
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

            return NCCLTrainerInitInfo(*_free_address(), world, rank=rank)
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        # Packed buffers refuse tensors larger than they are, and embeddings can be.
        largest = max(m.dtype.itemsize * math.prod(m.shape) for m in self._source.metadata())
        size = max(_IPC_BUFFER_BYTES, largest)
        return IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=size, rank=rank)

    def send(self) -> WeightSums:
        """One round to all engines; returns the sums of every weight, sent now or before.

        When it fails the group is left, so that engines that still wait for weights fail too.
        """
        self._whole.begin()
        with torch.no_grad():
            try:
                self._trainer.send_weights()
            except Exception:
                self.close()
                self._whole.drain()
                raise
        self._source.finish()
        return dict(self._source.sums)

    def close(self) -> None:
        """Leave the group."""
        self._trainer.shutdown()
