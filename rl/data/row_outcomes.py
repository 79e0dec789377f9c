"""What a check of single rows finds, in threads here or in processes where that pays."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from rl.data.prefetch import prefetch
from rl.data.row_values import BadRow, cell, check_images
from rl.storage.fingerprint import row_fingerprint
from rl.tables.sources import Source

_ROWS_AT_A_TIME = 64
_TRIED_ROWS = 128
"""Rows that are checked here before it is known how long the others would take."""
PAYS_FROM_S = 30.0
"""Seconds of work from which on processes pay: each takes some to import what it needs."""
_MOST_PROCESSES = 32


class Sample(Protocol):
    """What a row is made into: a problem or a chat."""

    @property
    def id(self) -> str: ...
    @property
    def images(self) -> Sequence[bytes | str]: ...


S = TypeVar("S", bound=Sample)
S_contra = TypeVar("S_contra", bound=Sample, contravariant=True)


@dataclass(frozen=True, slots=True)
class KnownMeasure(Generic[S_contra]):
    """A measure that other processes can be sent, and whose results can be kept."""

    measure: Callable[[S_contra], int]
    """A sample's length in tokens; can be pickled."""
    settings: str
    """All that it goes by beside the sample, but for the project's code."""

    def __call__(self, sample: S_contra) -> int:
        return self.measure(sample)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found of a row."""

    number: int
    """The row's."""
    id: str | None
    """The sample's; None where the row made none."""
    label: str
    """What names the row in a list of rejected ones."""
    fault: str = ""
    """Why it cannot be used, in one word; empty where it can."""
    detail: str = ""
    tokens: int = 0
    has_image: bool = False
    fingerprint: int = 0
    """64 bits of the row's values."""
    files: tuple[str, ...] = ()
    """Image files that the sample names."""


@dataclass(frozen=True, slots=True)
class RowCheck(Generic[S]):
    """How the rows of a source are looked at, each by itself."""

    source: Source
    id_column: str | None
    max_image_pixels: int
    make: Callable[[Mapping[str, Any], int], S]
    """Makes a sample of a row and its number; BadRow rejects the row."""
    measure: Callable[[S], int]
    """Its length in tokens; ValueError rejects the row, as unprocessable or, where it is a BadRow,
    for its own reason."""
    max_tokens: int
    """Rows that are longer are rejected."""

    def outcomes(self, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Of the rows of `numbers`, in their order, wherever they are looked at."""
        began = time.perf_counter()
        tried, others = numbers[:_TRIED_ROWS], numbers[_TRIED_ROWS:]
        yield from self._in_threads(tried)
        seconds = (time.perf_counter() - began) / len(tried) * len(others) if others else 0.0
        processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
        if seconds < PAYS_FROM_S or processes < 2 or not isinstance(self.measure, KnownMeasure):
            yield from self._in_threads(others)
            return
        with ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _begin, (self,)
        ) as pool:
            for part in prefetch(pool, _outcomes, _parts(others), depth=2 * processes):
                yield from part

    def decode(self, row: Mapping[str, Any], number: int) -> S | BadRow:
        """The row's sample, its images decoded once and in full."""
        try:
            sample = self.make(row, number)
            check_images(sample.images, self.max_image_pixels)
        except BadRow as error:
            return error
        return sample

    def outcome(self, row: Mapping[str, Any], number: int, made: S | BadRow) -> Outcome:
        """What is said of a row that `decode` made something of."""
        label = _label(row, number, self.id_column)
        if isinstance(made, BadRow):
            return Outcome(number, None, label, made.fault, str(made))
        files = tuple(image for image in made.images if isinstance(image, str))
        try:
            tokens = self._length(made)
        except BadRow as error:
            return Outcome(number, made.id, label, error.fault, str(error), files=files)
        return Outcome(
            number,
            made.id,
            label,
            tokens=tokens,
            has_image=bool(made.images),
            fingerprint=row_fingerprint(row),
            files=files,
        )

    def _in_threads(self, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Samples are made in threads, and measured in this one."""
        threads = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
            for some in _parts(numbers):
                rows = self.source.select_rows(some)
                decoded = pool.map(self.decode, rows, some)
                yield from map(self.outcome, rows, some, decoded)

    def _length(self, sample: S) -> int:
        try:
            tokens = self.measure(sample)
        except BadRow:
            raise
        except ValueError as error:
            raise BadRow("unprocessable", str(error)) from error
        if tokens > self.max_tokens:
            raise BadRow("too_long", f"{tokens:,} tokens are more than {self.max_tokens:,}")
        return tokens


def _label(row: Mapping[str, Any], number: int, id_column: str | None) -> str:
    """The row's id as it stands there, or its number."""
    try:
        return str(number if id_column is None else cell(row, id_column))
    except BadRow:
        return str(number)


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), _ROWS_AT_A_TIME):
        yield numbers[start : start + _ROWS_AT_A_TIME]


_check: RowCheck[Any] | None = None
"""What a process of the pool was sent when it began."""


def _begin(check: RowCheck[Any]) -> None:
    global _check
    _check = check


def _outcomes(numbers: Sequence[int]) -> list[Outcome]:
    """Of some rows, in a process of the pool."""
    check = _check
    assert check is not None, "a process begins with a check"
    rows = check.source.select_rows(numbers)
    return [
        check.outcome(row, number, check.decode(row, number))
        for row, number in zip(rows, numbers, strict=True)
    ]
