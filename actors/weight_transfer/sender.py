"""From learner to engines: gather, send over vLLM's weight-transfer API, and sum what was sent."""

import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

import ray
import torch
from vllm.distributed.weight_transfer import (
    RayVLLMWeightSyncClient,
    TrainerWeightTransferEngine,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)

from actors.weight_transfer import rendezvous
from actors.weight_transfer.gloo import GlooTrainerInit, register
from actors.weight_transfer.ipc import IPCTrainer, NotBegun, ipc_info
from actors.weight_transfer.policy_source import Gather, PolicySource, ResumableSource
from actors.weight_transfer.rendezvous import Rendezvous
from models.policy.checkpoint_weights import CheckpointWeight
from models.policy.weight_sums import WeightSums

T = TypeVar("T")


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
        self.failed_to_meet = Future[None]()
        """Has what the first engine raised that could not meet."""

    def start_weight_update(self) -> None:
        wait_or_raise([handle.start_weight_update.remote() for handle in self.handles])

    def update_weights(self, update_info: Any) -> None:
        request = WeightTransferUpdateRequest(update_info)
        try:
            wait_or_raise([handle.update_weights.remote(request) for handle in self.handles])
        except Exception:
            self._on_failure()
            raise

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        wait_or_raise([handle.finish_weight_update.remote() for handle in self.handles])

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        offset = init_info.get("rank_offset")
        calls: list[Any] = []
        for i, handle in enumerate(self.handles):
            own = dict(init_info)
            if offset is not None:
                own["rank_offset"] = offset + i * self._ranks_per_engine
            calls.append(handle.init_weight_transfer_engine.remote(WeightTransferInitRequest(own)))
        try:
            wait_or_raise(calls)
        except Exception as fault:
            self.failed_to_meet.set_exception(fault)
            raise


def wait_or_raise(calls: list[Any]) -> None:
    """Wait for all calls, or until one fails: `ray.get` alone would wait for them in order."""
    while calls:
        done, calls = ray.wait(calls)
        ray.get(done)


def _free_address() -> tuple[str, int]:
    """This node's address and a port that nobody uses now, to be taken at once."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]


def _begin(work: Callable[[], T]) -> Future[T]:
    """Do it on a thread of its own, which nobody has to wait for."""
    result = Future[T]()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as fault:
            result.set_exception(fault)

    threading.Thread(target=run, name="meet the engines", daemon=True).start()
    return result


class WeightSender:
    """One learner rank's end of the transfer to all engines."""

    def __init__(
        self,
        meeting: Rendezvous,
        weights: Mapping[str, CheckpointWeight],
        rank: int,
        gathered: Gather,
        precision: torch.dtype,
    ) -> None:
        """Meet the engines. Called on every learner rank; rank 0 sends.

        `precision`: of the weights that adapters are merged into, the engines' own.
        """
        register()
        self._meeting = meeting
        self._source = PolicySource(weights, gathered, precision)
        self._whole = ResumableSource(self._source)
        client = _Client(meeting.engines, meeting.ranks_per_engine, self._abort_broadcast)
        self._trainer = self._meet(rank, client)

    def _meet(self, rank: int, client: _Client) -> TrainerWeightTransferEngine[Any]:
        if self._meeting.transport == "ipc":
            info = ipc_info(self._source.metadata(), rank)
            return IPCTrainer.trainer_init(info, client=client, source=self._whole)
        info = self._init_info(rank)
        meet = WeightTransferTrainerFactory.trainer_init
        if self._meeting.transport == "gloo":
            return meet(info, client=client, source=self._whole)
        # Rank 0 would wait minutes for an engine that failed, where the call to it says so at once.
        met = _begin(lambda: meet(info, client=client, source=self._whole))
        wait((met, client.failed_to_meet), return_when=FIRST_COMPLETED)
        if not met.done():
            client.failed_to_meet.result()  # raises what the engine did
        return met.result()

    def _abort_broadcast(self) -> None:
        """Free rank 0 from a broadcast that a dead engine will never join: NCCL would wait for
        ever. Gloo need not be told, for the dead have closed their sockets."""
        group = getattr(self._trainer, "model_update_group", None)
        if self._meeting.transport == "nccl" and group is not None:
            # Freed, rank 0 gathers on and comes with the next buffer, while NCCL may still be
            # tearing the communicator down.
            group.broadcast = lambda *_, **__: None
            group.destroy()

    def _init_info(self, rank: int) -> TrainerInitInfo:
        meeting = self._meeting
        world = 1 + len(meeting.engines) * meeting.ranks_per_engine
        if meeting.transport == "gloo":
            return GlooTrainerInit(ray.util.get_node_ip_address(), world, rank=rank)
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        size = rendezvous.BUFFER_BYTES
        return NCCLTrainerInitInfo(
            *_free_address(), world, rank=rank, packed_buffer_size_bytes=size
        )

    def send(self) -> WeightSums:
        """One round to all engines; returns the sums of every weight, sent now or before.

        When it fails the group is left, so that engines that still wait for weights fail too.
        """
        self._whole.begin()
        with torch.no_grad():
            try:
                self._trainer.send_weights()
            except Exception as fault:
                self.close()
                if not isinstance(fault, NotBegun):  # of which no rank has gathered anything
                    self._whole.drain()
                raise
        self._source.finish()
        return dict(self._source.sums)

    @property
    def always_sends_all(self) -> bool:
        """Whether rounds behind the first send every weight, too."""
        return self._source.all_learn

    @property
    def bytes_sent(self) -> int:
        """In the newest round."""
        return self._source.bytes_sent

    def close(self) -> None:
        """Leave the group."""
        self._trainer.shutdown()
