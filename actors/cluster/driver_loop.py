"""The asyncio loop in which the driver waits for its actors."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
_GIVEN_UP_IN_S = 5.0


class DriverLoop:
    """The asyncio loop, on a thread of its own, in which the driver waits for its actors."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="actors")
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin `work`; its result is there when the future says so."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Give up what is still under way, then stop the loop and its thread."""
        with suppress(TimeoutError):
            self.start(_cancel_others()).result(timeout=_GIVEN_UP_IN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
