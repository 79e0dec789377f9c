"""Weights by CUDA memory handles, where learner ranks and engines share GPUs.

vLLM's own `ipc` transport: every rank gathers a layer, copies it into a buffer on its GPU, and the
first rank hands all buffers' handles on, by the GPUs' UUIDs. An engine's worker opens the one on
its own GPU and takes its share, so n ranks serve the n workers of an engine of n GPUs, and beside
its shard no GPU holds more than a buffer. What is added here: a pass survives an engine that fails.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from vllm.distributed.weight_transfer import ParamMeta
from vllm.distributed.weight_transfer.ipc_engine import (
    IPCTrainerInitInfo,
    IPCTrainerWeightTransferEngine,
)

BUFFER_BYTES = 2**30
"""Of a rank's GPU while weights travel, and of an engine's worker beside it."""


def ipc_info(metadata: Sequence[ParamMeta], rank: int) -> IPCTrainerInitInfo:
    """What a rank is told. Buffers refuse tensors larger than they are, and embeddings can be."""
    largest = max(meta.dtype.itemsize * math.prod(meta.shape) for meta in metadata)
    size = max(BUFFER_BYTES, largest)
    return IPCTrainerInitInfo(packed=True, packed_buffer_size_bytes=size, rank=rank)


class IPCTrainer(IPCTrainerWeightTransferEngine):
    """The trainer's end, on every rank.

    Each buffer is a row of collectives of all ranks: gathered, handles exchanged, read. Were the
    sender to leave it when an engine fails, the others would wait for it in one of them for ever.
    So it goes through to the end, telling engines nothing more, and raises there.
    """

    _fault: Exception | None = None

    def send_weights(self) -> None:
        """One round to all engines.

        Raises:
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
