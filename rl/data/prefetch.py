"""Items prepared in a thread, ahead of who takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def prefetch(
    pool: Executor, work: Callable[[S], T], things: Iterable[S], depth: int = 1
) -> Iterator[T]:
    """`work` of each thing, in order, begun up to `depth` things before it is taken."""
    begun: deque[Future[T]] = deque()
    for thing in things:
        begun.append(pool.submit(work, thing))
        if len(begun) > depth:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
