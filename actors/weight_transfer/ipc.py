"""Weights by CUDA memory handles, where learner ranks and engines share GPUs.

vLLM's own `ipc` transport: every rank gathers a layer, copies it into a buffer on its GPU, and the
first rank hands all buffers' handles on, by the GPUs' UUIDs. An engine's worker opens the one on
its own GPU and takes its share, so n ranks serve the n workers of an engine of n GPUs, and beside
its shard no GPU holds more than a buffer. What is added here: a pass survives an engine that fails,
and no rank begins one for which another has no room.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.ipc_engine import (
    IPCTrainerInitInfo,
    IPCTrainerWeightTransferEngine,
)

from actors.weight_transfer.rendezvous import shared_buffer_bytes


class NotBegun(RuntimeError):
    """A rank could not begin a round, so that no rank has; raised on all of them."""


def ipc_info(metadata: Sequence[ParamMeta], rank: int) -> IPCTrainerInitInfo:
    """What a rank is told."""
    largest = max(meta.dtype.itemsize * torch.Size(meta.shape).numel() for meta in metadata)
    size = shared_buffer_bytes(largest)
    return IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=size, rank=rank)


class IPCTrainer(IPCTrainerWeightTransferEngine):
    """The trainer's end, on every rank.

    Each buffer is a row of collectives of all ranks: gathered, handles exchanged, read. Were the
    sender to leave it when an engine fails, the others would wait for it in one of them for ever.
    So it goes through to the end, telling engines nothing more, and raises there. For the same
    reason ranks tell each other that they have their buffer before the first layer is gathered.
    """

    _fault: Exception | None = None

    def send_weights(self) -> None:
        """One round to all engines.

        Raises:
            NotBegun: a rank had no room for its buffer; on every rank.
            Exception: what the first call that an engine failed raised, on the sender alone.
        """
        assert self.source is not None and self.packed
        self._fault = None
        self._tell(self.client.start_weight_update)
        self._send_packed(self.source)
        self._tell(self.client.finish_weight_update)
        self._post_send_sync()
        if self._fault is not None:
            raise self._fault

    def _send_packed(self, source: WeightSource) -> None:
        begun = _Begun(source)
        try:
            super()._send_packed(begun)  # makes the buffer, then asks for the first weight
        except Exception as fault:
            if not begun.agreed:
                _agree(fault)
            raise

    def _do_send(self, *args: Any, **chunk: Any) -> None:
        send = super()._do_send
        self._tell(lambda: send(*args, **chunk))

    def _tell(self, call: Callable[[], object]) -> None:
        if not self.is_sender or self._fault is not None:
            return
        try:
            call()
        except Exception as fault:
            self._fault = fault


class _Begun(WeightSource):
    """A source whose first weight is gathered when all ranks have their buffers."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self.agreed = False

    def metadata(self) -> list[ParamMeta]:
        return self._source.metadata()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        self.agreed = True
        _agree(None)
        yield from self._source


def _agree(fault: Exception | None) -> None:
    """Tell all ranks what kept this one from beginning, if anything did. A collective.

    Raises:
        NotBegun: something kept one of them.
    """
    said = "" if fault is None else f"{type(fault).__name__}: {fault}"
    all_said = [said]
    if dist.is_initialized():
        all_said = [""] * dist.get_world_size()
        dist.all_gather_object(all_said, said)
    faults = [f"learner rank {rank}: {one}" for rank, one in enumerate(all_said) if one]
    if faults:
        raise NotBegun(
            "no weights were sent, as ranks could not make the buffer in which they travel: "
            f"{'; '.join(faults)}"
        ) from fault
