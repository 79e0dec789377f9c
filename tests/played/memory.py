"""Memory of a GPU that is played: who lets a tensor go too early finds another's numbers in it."""

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.played.streams import Event, Stream, current_stream


class OnGPU(Tensor):
    """A tensor of a GPU, in one process with its streams."""

    is_cuda = True  # pyright: ignore[reportAssignmentType]

    def record_stream(self, stream: Any) -> None:
        """As torch's: let go, memory is in use until `stream` has done what it has to do then."""
        _readers.setdefault(self.untyped_storage().data_ptr(), set()).add(stream)


_readers: dict[int, set[Stream]] = {}
"""Streams by the address of the memory that they read."""


class PlayedMemory:
    """Blocks of one size, handed out again as CUDA's caching allocator does.

    A block belongs to the stream that it was asked for on, and goes to the next who asks on it as
    soon as nothing in Python holds it, whatever is still queued. Only for streams that
    `record_stream` named it waits.
    """

    def __init__(self, size: int) -> None:
        """`size`: float32 numbers of a block."""
        self._size = size
        self._blocks: list[np.ndarray] = []
        self._free: dict[Stream, list[tuple[int, list[Event]]]] = {}
        self.handed_out_again = 0

    def take(self, numbers: Tensor, *, late: bool = False) -> Tensor:
        """A block with float32 `numbers` in it: the current stream has come to writing them, or,
        `late`, will."""
        stream = current_stream()
        block = self._block(stream)
        whole, size = self._blocks[block], numbers.numel()

        def write() -> None:
            whole[:size] = numbers.reshape(-1).numpy()

        stream.begin(write)
        if not late:
            stream.synchronize()
        view = whole[:size]
        weakref.finalize(view, self._let_go, block, stream)
        return torch.from_numpy(view).view(numbers.shape).as_subclass(OnGPU)

    def _block(self, stream: Stream) -> int:
        free = self._free.setdefault(stream, [])
        for place, (block, readers) in enumerate(free):
            if all(event.done for event in readers):
                del free[place]
                self.handed_out_again += 1
                return block
        self._blocks.append(np.empty(self._size, np.float32))
        return len(self._blocks) - 1

    def _let_go(self, block: int, stream: Stream) -> None:
        address = self._blocks[block].ctypes.data
        readers = [each.record_event() for each in _readers.pop(address, ()) if each != stream]
        self._free[stream].append((block, readers))
