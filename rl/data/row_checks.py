"""Checks every row of a data set before a run starts."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rl.console.errors import UserError
from rl.console.progress import phase
from rl.data.row_values import BadRow, check_images
from rl.data.sources import Source

_ROWS_AT_A_TIME = 64
_EXAMPLES = 3


class TooManyRejected(UserError):
    """More of the rows than the recipe allows cannot be used."""


class Sample(Protocol):
    """What a row is made into: a problem or a chat."""

    @property
    def id(self) -> str: ...
    @property
    def images(self) -> Sequence[bytes | str]: ...


class RowsConfig(Protocol):
    """The fields that data sections of recipes have in common."""

    @property
    def source(self) -> str: ...
    @property
    def id_column(self) -> str | None: ...
    @property
    def max_image_pixels(self) -> int: ...
    @property
    def max_rejected_share(self) -> float: ...
    @property
    def limit(self) -> int | None: ...


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of all rows found; each list has one entry a usable row."""

    numbers: list[int] = field(default_factory=list[int])
    """Row numbers."""
    tokens: list[int] = field(default_factory=list[int])
    """Lengths in tokens."""
    has_image: list[bool] = field(default_factory=list[bool])
    rejected: Counter[str] = field(default_factory=Counter[str])
    """Rows left out, by reason."""


def check_rows(
    source: Source,
    data: RowsConfig,
    make: Callable[[Mapping[str, Any], int], S],
    measure: Callable[[S], int],
    max_tokens: int,
    rejected: Path,
) -> Checked:
    """Make a sample of every row; write those that cannot be used to `rejected` (JSONL).

    Args:
        make: makes a sample of a row and its number, in several threads; BadRow rejects the row.
        measure: a sample's length in tokens, called from this thread; ValueError rejects the row,
            as unprocessable or, where it is a BadRow, for its own reason.
        max_tokens: rows that are longer are rejected.

    Raises:
        ValueError: there are no rows.
        TooManyRejected: none can be used, or the share of rejected rows is above
            `data.max_rejected_share`.
    """
    total = min(len(source), data.limit or len(source))
    if not total:
        raise UserError(f"data.source {data.source!r} has no rows in that split")

    def decode(row: Mapping[str, Any], number: int) -> S | BadRow:
        try:
            sample = make(row, number)
            check_images(sample.images, data.max_image_pixels)
        except BadRow as error:
            return error
        return sample

    found = Checked()
    ids: dict[str, int] = {}
    faults: list[dict[str, Any]] = []
    rejected.parent.mkdir(parents=True, exist_ok=True)
    with (
        rejected.open("w", encoding="utf-8") as out,
        phase(f"checking rows of {data.source}", total) as work,
    ):
        for number, row, made in _in_threads(source, total, decode):
            try:
                if isinstance(made, BadRow):
                    raise made
                before = ids.setdefault(made.id, number)
                if before != number:
                    raise BadRow("duplicate_id", f"id {made.id!r} is that of row {before} too")
                found.tokens.append(_length(made, measure, max_tokens))
                found.numbers.append(number)
                found.has_image.append(bool(made.images))
            except BadRow as error:
                name = str(number if data.id_column is None else row[data.id_column])
                fault = {"row": number, "id": name, "reason": error.fault, "detail": str(error)}
                faults.append(fault)
                out.write(json.dumps(fault, ensure_ascii=False) + "\n")
            work.advance(note=f"{len(faults):,} rejected" if faults else None)
    found.rejected.update(fault["reason"] for fault in faults)
    if not found.numbers or len(faults) > data.max_rejected_share * total:
        raise TooManyRejected(_worst(faults, total, data, rejected))
    return found


def _in_threads(
    source: Source, total: int, decode: Callable[[Mapping[str, Any], int], S | BadRow]
) -> Iterator[tuple[int, dict[str, Any], S | BadRow]]:
    """The number of each of the first `total` rows, the row, and what `decode` makes of them."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, total, _ROWS_AT_A_TIME):
            numbers = range(start, min(start + _ROWS_AT_A_TIME, total))
            rows = source.rows(numbers.start, numbers.stop)
            yield from zip(numbers, rows, pool.map(decode, rows, numbers), strict=True)


def _length(sample: S, measure: Callable[[S], int], max_tokens: int) -> int:
    try:
        tokens = measure(sample)
    except BadRow:
        raise
    except ValueError as error:
        raise BadRow("unprocessable", str(error)) from error
    if tokens > max_tokens:
        raise BadRow("too_long", f"{tokens:,} tokens are more than {max_tokens:,}")
    return tokens


def _worst(faults: list[dict[str, Any]], total: int, data: RowsConfig, rejected: Path) -> str:
    lines = [
        f"{len(faults):,} of {total:,} rows of {data.source!r} cannot be used, a share of "
        f"{len(faults) / total:.1%}; data.max_rejected_share allows {data.max_rejected_share:.1%}:"
    ]
    for reason, count in Counter(fault["reason"] for fault in faults).most_common():
        lines.append(f"  {count:,} x {reason}")
        examples = [fault for fault in faults if fault["reason"] == reason][:_EXAMPLES]
        lines += [f"      row {e['row']}, id {e['id']}: {e['detail']}" for e in examples]
    lines.append(f"mend the data, or raise that share; all of them are in {rejected}")
    return "\n".join(lines)
