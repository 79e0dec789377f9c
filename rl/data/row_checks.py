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
from rl.storage.fingerprint import row_fingerprint
from rl.tables.sources import Source

_ROWS_AT_A_TIME = 64
_IDS_AT_A_TIME = 65_536
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
    @property
    def ids(self) -> Path | None: ...


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of all rows found; each list has one entry a usable row."""

    numbers: list[int] = field(default_factory=list[int])
    """Row numbers."""
    tokens: list[int] = field(default_factory=list[int])
    """Lengths in tokens."""
    has_image: list[bool] = field(default_factory=list[bool])
    fingerprints: list[int] = field(default_factory=list[int])
    """64 bits of each row's values."""
    ids: list[str] = field(default_factory=list[str])
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
        UserError: there are no rows, or `data.ids` names one that is not there.
        TooManyRejected: none can be used, or the share of rejected rows is above
            `data.max_rejected_share`.
    """
    numbers = chosen_rows(source, data)
    total = len(numbers)

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
        for number, row, made in _in_threads(source, numbers, decode):
            try:
                if isinstance(made, BadRow):
                    raise made
                before = ids.setdefault(made.id, number)
                if before != number:
                    raise BadRow("duplicate_id", f"id {made.id!r} is that of row {before} too")
                found.tokens.append(_length(made, measure, max_tokens))
                found.numbers.append(number)
                found.ids.append(made.id)
                found.has_image.append(bool(made.images))
                found.fingerprints.append(row_fingerprint(row))
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


def chosen_rows(source: Source, data: RowsConfig) -> Sequence[int]:
    """Numbers of the rows that `data.ids` and `data.limit` leave.

    Raises:
        UserError: none is left, or `data.ids` cannot be read or names a row that is not there.
    """
    numbers: Sequence[int] = range(len(source))
    if data.ids is not None:
        numbers = _listed_rows(source, data, data.ids)
    if not numbers:
        raise UserError(f"data.source {data.source!r} has no rows in that split")
    return numbers[: data.limit]


def _listed_rows(source: Source, data: RowsConfig, path: Path) -> list[int]:
    if not path.is_file():
        raise UserError(f"data.ids={str(path)!r} is no file; name one with an id a line")
    listed = dict.fromkeys(
        line for raw in path.read_text("utf-8").splitlines() if (line := raw.strip())
    )
    if not listed:
        raise UserError(f"data.ids={str(path)!r} names no row; write an id a line")
    if data.id_column is None:
        found = [number for number in range(len(source)) if str(number) in listed]
    else:
        column = source.select_columns([data.id_column])
        found = [
            start + place
            for start in range(0, len(source), _IDS_AT_A_TIME)
            for place, row in enumerate(column.rows(start, start + _IDS_AT_A_TIME))
            if str(row[data.id_column]) in listed
        ]
    if len(found) < len(listed):
        named = "row numbers" if data.id_column is None else f"column {data.id_column!r}"
        raise UserError(
            f"data.ids={str(path)!r} names {len(listed):,} rows, and {named} of {data.source!r} "
            f"have {len(found):,} of them; mend the file, or set data.id_column to what it lists"
        )
    return found


def _in_threads(
    source: Source,
    numbers: Sequence[int],
    decode: Callable[[Mapping[str, Any], int], S | BadRow],
) -> Iterator[tuple[int, dict[str, Any], S | BadRow]]:
    """Each of `numbers`, the row that it names, and what `decode` makes of it."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, len(numbers), _ROWS_AT_A_TIME):
            some = numbers[start : start + _ROWS_AT_A_TIME]
            rows = source.select_rows(some)
            yield from zip(some, rows, pool.map(decode, rows, some), strict=True)


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
