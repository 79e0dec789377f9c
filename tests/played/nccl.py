"""A communicator of NCCL's, played over the store that its ranks meet at.

As NCCL's, a broadcast is queued on a stream and over when every rank has taken it, so a sender
waits for a dead one until its own communicator is destroyed.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from tests.played.streams import Put, Stream, current_stream, play_streams

_LOOK_EVERY_S = 0.002


class PlayedCommunicator:
    """In place of vLLM's PyNcclCommunicator."""

    def __init__(self, group: Any, device: Any) -> None:
        self.rank: int = group.rank
        self.world_size: int = group.world_size
        self.disabled = False
        self._store: Any = group.store
        self._numbers = count()
        self._left = threading.Event()

    def broadcast(self, tensor: Tensor, src: int, stream: Stream | None = None) -> None:
        """Send a uint8 tensor from `src` to all others."""
        if self.disabled:
            return
        if self._left.is_set():
            raise RuntimeError("NCCL was called for a communicator that is being freed")
        key = f"sent/{next(self._numbers)}"
        taken = {rank: f"{key}/taken_by/{rank}" for rank in range(self.world_size) if rank != src}
        if self.rank == src:
            self._store.set(key, tensor.numpy().tobytes())
            over = partial(self._until, lambda: self._store.check(list(taken.values())))
            (stream or current_stream()).begin(over)
            return
        self._until(lambda: self._store.check([key]))
        if self._left.is_set():
            raise RuntimeError("the communicator was destroyed")
        tensor.copy_(torch.frombuffer(bytearray(self._store.get(key)), dtype=torch.uint8))
        self._store.set(taken[self.rank], "")

    def _until(self, true: Callable[[], bool]) -> None:
        while not (self._left.is_set() or true()):
            self._left.wait(_LOOK_EVERY_S)

    def destroy(self) -> None:
        """Free whoever waits here; for a while NCCL still tears down what vLLM would use."""
        self._left.set()
        time.sleep(0.1)
        self.disabled = True


def play_nccl(put: Put) -> None:
    """Let vLLM's `nccl` transport run on CPUs, both ends of it."""
    from vllm.distributed.device_communicators import pynccl

    play_streams(put)
    put(pynccl, "PyNcclCommunicator", PlayedCommunicator)
