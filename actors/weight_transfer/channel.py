"""From the learner's process into the engines': through memory on one node, else through sockets.

What travels is a row of flat buffers, the same on both sides. While one is on its way, the sender
prepares the next, and engines load the one before.
"""

import mmap
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, ReduceOp, Work

Buffer = tuple[int, torch.dtype]
"""How many values a flat buffer has, and of what kind."""

_PLACES = 3
_HEAD_BYTES = mmap.PAGESIZE
_SECRET_BYTES = 16


class Channel(Protocol):
    """One end of the way."""

    def send(self, parts: Sequence[Tensor]) -> None:
        """Send tensors of one dtype as one flat buffer; they may go when this returns."""
        ...

    def flush(self) -> None:
        """Wait until the last buffer has arrived."""
        ...

    def receive(self, buffers: Iterable[Buffer]) -> Iterator[Tensor]:
        """What was sent, in order; a flat tensor is valid until the next one is asked for."""
        ...


class _Sender:
    """Waits for a buffer when the next one is ready."""

    _on_its_way: Work | None = None

    def _follow(self, work: Work | None) -> None:
        if self._on_its_way is not None:
            self._on_its_way.wait()
        self._on_its_way = work

    def flush(self) -> None:
        self._follow(None)


class Sockets(_Sender):
    """A broadcast a buffer, from rank 0 of a gloo group."""

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group

    def send(self, parts: Sequence[Tensor]) -> None:
        flat = torch.cat([part.reshape(-1) for part in parts])
        self.flush()  # one at a time: the next one is gathered meanwhile
        self._follow(self._broadcast(flat))

    def receive(self, buffers: Iterable[Buffer]) -> Iterator[Tensor]:
        ahead: deque[tuple[Tensor, Work]] = deque()
        for count, dtype in buffers:
            flat = torch.empty(count, dtype=dtype)
            ahead.append((flat, self._broadcast(flat)))
            if len(ahead) > 1:
                yield _come(*ahead.popleft())
        for last in ahead:
            yield _come(*last)

    def _broadcast(self, flat: Tensor) -> Work:
        # The group's own method: torch.distributed's broadcast wants ranks of the default group.
        return self._group.broadcast(flat, 0)


def _come(flat: Tensor, work: Work) -> Tensor:
    work.wait()
    return flat


@dataclass(frozen=True, slots=True)
class SharedMemoryInfo:
    """Where engines find the sender's memory, should they be on its node."""

    path: str
    secret: str
    """What lies at its head, in hexadecimal: on another node the path may name something else."""
    place_bytes: int


class SharedMemory(_Sender):
    """Buffers in memory that sender and engines share, announced by barriers of a gloo group.

    The sender fills one of three places while engines load from another. When the barrier of buffer
    i is over, all have come to it, so they are done with buffer i - 1; the sender waits for it
    before it fills the place of buffer i + 2, which is that of i - 1.
    """

    def __init__(self, memory: mmap.mmap, group: ProcessGroup) -> None:
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8)[_HEAD_BYTES:]
        self._group = group
        self._sent = 0

    def send(self, parts: Sequence[Tensor]) -> None:
        count = sum(part.numel() for part in parts)
        flat = self._place(self._sent, count, parts[0].dtype)
        torch.cat([part.reshape(-1) for part in parts], out=flat)
        self._follow(self._group.barrier())
        self._sent += 1

    def flush(self) -> None:
        super().flush()
        self._sent = 0

    def receive(self, buffers: Iterable[Buffer]) -> Iterator[Tensor]:
        for number, (count, dtype) in enumerate(buffers):
            self._group.barrier().wait()
            yield self._place(number, count, dtype)

    def _place(self, number: int, count: int, dtype: torch.dtype) -> Tensor:
        size = len(self._bytes) // _PLACES
        start = number % _PLACES * size
        return self._bytes[start : start + count * dtype.itemsize].view(dtype)


@contextmanager
def own_memory(largest: int) -> Generator[tuple[mmap.mmap | None, SharedMemoryInfo | None]]:
    """The sender's memory, which engines may open meanwhile; whoever has it keeps it.

    It has no name in any folder, so that whoever is killed leaves nothing behind, and no
    container's /dev/shm is too small for it. (None, None) where there is no such memory: sockets do
    as well.

    Args:
        largest: bytes of the largest buffer.
    """
    if not hasattr(os, "memfd_create"):  # Linux alone has it
        yield None, None
        return
    place = -(-largest // mmap.PAGESIZE) * mmap.PAGESIZE
    size = _HEAD_BYTES + _PLACES * place
    file = os.memfd_create("weights")
    try:
        try:
            os.posix_fallocate(file, 0, size)
            memory = mmap.mmap(file, size)
        except OSError:
            yield None, None
            return
        memory[:_SECRET_BYTES] = secret = os.urandom(_SECRET_BYTES)
        yield memory, SharedMemoryInfo(f"/proc/{os.getpid()}/fd/{file}", secret.hex(), place)
    finally:
        os.close(file)


def open_memory(info: SharedMemoryInfo) -> mmap.mmap | None:
    """The sender's memory; None on another node, or in a container that does not see it."""
    try:
        file = os.open(info.path, os.O_RDWR)
    except OSError:
        return None
    try:
        if os.read(file, _SECRET_BYTES).hex() != info.secret:
            return None
        return mmap.mmap(file, _HEAD_BYTES + _PLACES * info.place_bytes)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def agree(group: ProcessGroup, memory: mmap.mmap | None) -> Channel:
    """Shared memory where all of the group have it, sockets elsewhere. A collective."""
    have = torch.tensor([memory is not None], dtype=torch.int32)
    group.allreduce(have, ReduceOp.MIN).wait()
    return SharedMemory(memory, group) if memory is not None and have.item() else Sockets(group)
