"""Many questions at a time, each in a thread that waits for its reply."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rl.data.prefetch import prefetch

S = TypeVar("S")
T = TypeVar("T")


def in_parallel(work: Callable[[S], T], things: Iterable[S], parallel: int) -> Iterator[T]:
    """`work` of each thing, in order; what it raises is raised, and what waits is not begun."""
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="ask")
    try:
        yield from prefetch(pool, work, things, depth=2 * parallel)
    finally:
        pool.shutdown(cancel_futures=True)
