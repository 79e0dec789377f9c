"""A disk without room, as far as one process can tell."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


def allow_files_of(size: int) -> None:
    """No file of this process may grow beyond `size` bytes, as where a quota is spent; -1: any."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As `allow_files_of`, for a time."""
    allow_files_of(size)
    try:
        yield
    finally:
        allow_files_of(resource.RLIM_INFINITY)
