"""CUDA streams that are played: what is queued on one is done when somebody waits for it.

So whoever reads or frees without waiting for the right stream does it too early each time, where a
GPU would let it pass nearly always.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

Put = Callable[[Any, str, Any], None]
"""`setattr`, or that of a test's monkeypatch, which takes it back."""


class Event:
    """A place in the queue of a stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self.done = False

    def wait(self) -> None:
        """Do what was queued before it."""
        while not self.done:
            self._stream.do_next()

    def set(self) -> None:
        """It has been come to."""
        self.done = True


class Stream:
    """A queue of work."""

    def __init__(self, device: Any = None) -> None:
        self._queue: deque[Callable[[], None]] = deque()

    def begin(self, work: Callable[[], None]) -> None:
        """Queue something."""
        self._queue.append(work)

    def do_next(self) -> None:
        """Do what is first in the queue."""
        self._queue.popleft()()

    def synchronize(self) -> None:
        """Do all that is queued."""
        while self._queue:
            self.do_next()

    def record_event(self) -> Event:
        """An event behind what is queued."""
        event = Event(self)
        self.begin(event.set)
        return event

    def wait_event(self, event: Event) -> None:
        """Let what is queued from now on wait for it."""
        self.begin(event.wait)


_own = threading.local()
"""The current stream of each thread."""


def current_stream() -> Stream:
    """Of this thread."""
    if not hasattr(_own, "stream"):
        _own.stream = Stream()
    return _own.stream


@contextmanager
def on(stream: Stream) -> Generator[None]:
    """Make it the current stream for a while."""
    before, _own.stream = current_stream(), stream
    try:
        yield
    finally:
        _own.stream = before


def play_streams(put: Put) -> None:
    """Let torch and vLLM's packing have them. Work of torch's own is still done at once."""
    from vllm.distributed.weight_transfer import packed_tensor

    streams: dict[int, tuple[Stream, ...]] = {}

    def of_this_thread(device: int, count: int) -> tuple[Stream, ...]:
        """As of a process, which a rank has for itself on GPUs."""
        return streams.setdefault(threading.get_ident(), tuple(Stream() for _ in range(count)))

    played: list[tuple[Any, str, Any]] = [
        (torch.cuda, "current_stream", lambda *_: current_stream()),
        (torch.cuda, "stream", on),
        (torch.cuda, "synchronize", lambda *_: current_stream().synchronize()),
        (torch.accelerator, "synchronize", lambda *_: None),
        (torch.accelerator, "empty_cache", lambda: None),
        (torch.accelerator, "current_device_index", lambda: 0),
        (packed_tensor, "_get_streams", of_this_thread),
    ]
    for module, name, part in played:
        put(module, name, part)


class TorchWith:
    """Torch, but for some functions."""

    def __init__(self, **parts: Any) -> None:
        self._parts = SimpleNamespace(**parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts if hasattr(self._parts, name) else torch, name)
