"""Weight transfer over gloo, for engines on CPU: both ends of vLLM's native weight-transfer API.

vLLM brings `nccl` and `ipc`; this adds the third transport, registered in every vLLM process by the
`vllm.general_plugins` entry point. Weights travel as one flat buffer a layer group, through memory
that both ends share where they are on one node.
"""

import importlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import timedelta
from mmap import mmap
from typing import Any, ClassVar, Self

import torch
from torch.distributed import ProcessGroup
from vllm.config import VllmConfig
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer import (
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferEngineFactory,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
    layerwise_groups,
)

from actors.weight_transfer.channel import (
    Channel,
    SharedMemoryInfo,
    agree,
    open_memory,
    own_memory,
)
from actors.weight_transfer.plain_experts import use_plain_experts
from models.policy.weight_sums import one_thread

NAME = "gloo"
_TIMEOUT = timedelta(minutes=5)


def register() -> None:
    """Make `gloo` known to vLLM, keep CPU engines' weights readable, and let engine processes end
    with whoever started them. Safe to call twice."""
    _end_with_parent()
    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, __name__, GlooEngine.__name__)
        WeightTransferTrainerFactory.register_engine(NAME, __name__, GlooTrainer.__name__)
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # On CPU vLLM packs linear weights into opaque oneDNN handles and drops the tensors, so
        # that nobody could read back what the engine holds. Plain matmul keeps them.
        importlib.import_module("vllm._custom_ops")._supports_onednn = False
        use_plain_experts()
        # vLLM asks for its second model runner where engines shall tell whom tokens were routed to,
        # which the worker that tells it on CPU does without. What else it asks for, recipes keep.
        VllmConfig._verify_aux_output_compatibility = lambda _: None


def _end_with_parent() -> None:
    """End this process when its parent is dead: a killed driver takes Ray along, but not vLLM's
    processes, which would keep their memory for ever."""
    parent = multiprocessing.parent_process()
    name = "end with parent"
    if parent is None or name in {thread.name for thread in threading.enumerate()}:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name=name, daemon=True).start()


@dataclass
class GlooInit(WeightTransferInitInfo):
    """Where an engine meets the trainer. The trainer is rank 0, engines follow."""

    master_address: str
    master_port: int
    rank_offset: int
    world_size: int
    shared_memory: dict[str, Any] | None = None
    """The trainer's, as `SharedMemoryInfo`."""


@dataclass
class GlooUpdate(WeightTransferUpdateInfo):
    """What one round sends, in order."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]

    def metadata(self) -> list[ParamMeta]:
        """The same as records, dtypes resolved."""
        rows = zip(self.names, self.dtype_names, self.shapes, strict=True)
        return [ParamMeta(name, getattr(torch, d), tuple(shape)) for name, d, shape in rows]


@dataclass
class GlooTrainerInit(TrainerInitInfo):
    """The trainer's side of the meeting: the address of its node, and how many will meet there."""

    backend: ClassVar[str] = NAME

    master_address: str
    world_size: int


def _meet(
    address: str, port: int, rank: int, world_size: int, listener: socket.socket | None = None
) -> ProcessGroup:
    group = stateless_init_torch_distributed_process_group(
        address,
        port,
        rank,
        world_size,
        backend="gloo",
        listen_socket=listener,
        timeout=_TIMEOUT,
    )
    assert isinstance(group, ProcessGroup)
    return group


def _buckets(metadata: list[ParamMeta]) -> Iterator[list[ParamMeta]]:
    """Runs of equal dtype within each layer group: what one broadcast carries."""
    by_name = {meta.name: meta for meta in metadata}
    for group in layerwise_groups([meta.name for meta in metadata]):
        for dtype in dict.fromkeys(by_name[name].dtype for name in group):
            yield [by_name[name] for name in group if by_name[name].dtype == dtype]


def _size(meta: ParamMeta) -> int:
    return torch.Size(meta.shape).numel()


def _count(bucket: list[ParamMeta]) -> int:
    return sum(map(_size, bucket))


def _largest(metadata: list[ParamMeta]) -> int:
    """Bytes of the largest bucket."""
    return max(_count(bucket) * bucket[0].dtype.itemsize for bucket in _buckets(metadata))


class GlooEngine(WeightTransferEngine[GlooInit, GlooUpdate]):
    """The engine's end: receives buckets and loads them in place."""

    init_info_cls = GlooInit
    update_info_cls = GlooUpdate
    _group: ProcessGroup | None = None
    _channel: Channel | None = None

    def init_transfer_engine(self, init_info: GlooInit) -> None:
        """Meet the trainer; a later call leaves the old group and joins the new one."""
        self.shutdown()
        rank = init_info.rank_offset + self.parallel_config.rank
        address, port = init_info.master_address, init_info.master_port
        told = init_info.shared_memory
        memory = open_memory(SharedMemoryInfo(**told)) if told else None
        self._group = _meet(address, port, rank, init_info.world_size)
        self._channel = agree(self._group, memory)

    def start_weight_update(self) -> None:
        """Nothing to prepare: CPU weights are loaded in place."""

    def finish_weight_update(self) -> None:
        """Nothing to finish."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive one round. The base class would synchronise an accelerator that is not there."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: GlooUpdate) -> None:
        """Take each bucket and hand its tensors to the model's own loader, which copies them."""
        if self._channel is None:
            raise RuntimeError("weights were sent before init_transfer_engine met the trainer")
        buckets = list(_buckets(update_info.metadata()))
        arriving = self._channel.receive((_count(bucket), bucket[0].dtype) for bucket in buckets)
        for bucket, flat in zip(buckets, arriving, strict=True):
            parts = zip(bucket, flat.split([_size(meta) for meta in bucket]), strict=True)
            self.model.load_weights((meta.name, part.view(meta.shape)) for meta, part in parts)

    def shutdown(self) -> None:
        """Leave the group."""
        if self._group is not None:
            self._group.shutdown()
            self._group = self._channel = None


class GlooTrainer(TrainerWeightTransferEngine[GlooTrainerInit]):
    """The trainer's end. Rank 0 sends; the others take part in gathering only."""

    init_info_cls = GlooTrainerInit
    _group: ProcessGroup | None = None
    _channel: Channel | None = None

    @classmethod
    def trainer_init(
        cls,
        init_info: GlooTrainerInit,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Meet the engines, which are told where by `client` at the same time."""
        trainer = cls(client=client, source=source, is_sender=init_info.is_sender)
        if not trainer.is_sender:
            return trainer
        largest = _largest(source.metadata()) if source is not None else 0
        with own_memory(largest) as (memory, told):
            trainer._meet_engines(init_info, memory, told)
        return trainer

    def _meet_engines(
        self, own: GlooTrainerInit, memory: mmap | None, told: SharedMemoryInfo | None
    ) -> None:
        address, world = own.master_address, own.world_size
        listener = socket.create_server(("", 0))  # held from here on, so that nobody can take it
        port = listener.getsockname()[1]
        engine = GlooInit(address, port, 1, world, asdict(told) if told else None)

        def meet() -> tuple[ProcessGroup, Channel]:
            group = _meet(address, port, 0, world, listener)
            return group, agree(group, memory)

        pool = ThreadPoolExecutor(max_workers=2)
        called = pool.submit(self.client.init_weight_transfer_engine, asdict(engine))
        met = pool.submit(meet)
        try:
            # An engine that died never comes to the meeting; the call to it says so at once.
            for first in wait((called, met), return_when=FIRST_EXCEPTION).done:
                first.result()
        finally:
            pool.shutdown(wait=False)
        self._group, self._channel = met.result()

    def send_weights(self) -> None:
        """One round: announce, broadcast group by group, finish. Called on every trainer rank."""
        assert self.source is not None
        metadata = self.source.metadata()
        if not self.is_sender:
            for _ in self.source.iter_groups():
                pass
            return
        update = GlooUpdate(
            names=[meta.name for meta in metadata],
            dtype_names=[str(meta.dtype).removeprefix("torch.") for meta in metadata],
            shapes=[list(meta.shape) for meta in metadata],
        )
        self.client.start_weight_update()
        pool = ThreadPoolExecutor(max_workers=1)
        try:
            received = pool.submit(self.client.update_weights, asdict(update))
            with one_thread():
                self._broadcast_all(metadata)
            received.result()
        finally:
            # Never wait for an engine here: had a broadcast failed, it might never answer.
            pool.shutdown(wait=False)
        self.client.finish_weight_update()

    def _broadcast_all(self, metadata: list[ParamMeta]) -> None:
        assert self._channel is not None and self.source is not None
        buckets = _buckets(metadata)
        for names, tensors in self.source.iter_groups():  # gathers and sums while another travels
            by_name = dict(zip(names, tensors, strict=True))
            while by_name:
                self._channel.send([by_name.pop(meta.name).detach() for meta in next(buckets)])
        self._channel.flush()

    def shutdown(self) -> None:
        """Leave the group."""
        if self._group is not None:
            self._group.shutdown()
            self._group = self._channel = None
