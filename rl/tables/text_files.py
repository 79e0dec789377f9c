"""Rows of JSON and CSV files, stored once as Arrow by a schema that holds for all of them.

The files are read twice: for the types, then for the rows.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

import datasets  # pyright: ignore[reportMissingTypeStubs]
import pyarrow as pa

from rl.console.errors import UserError
from rl.storage.cache import cache_folder, code_digest, get_or_build
from rl.tables import column_types
from rl.tables.column_types import ColumnType, number_of_text

_BATCH = 1000
"""Rows that are made into Arrow at a time."""
_Arrow: Any = pa  # its annotations are partial
_hub: Any = datasets
Row = Mapping[str, Any]


def json_rows(path: Path) -> Iterator[Row]:
    """Objects of a file with one a line, or of one array of them.

    Raises:
        UserError: names the line, or the place in the array, that is not one.
    """
    with path.open("rb") as file:
        start = file.read(64)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        yield from _array(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield _object(path, f"line {number:,}", text)


def _array(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; mend it") from None
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            _not_a_row(path, f"entry {number:,} of the array (from 0)", row)
        yield cast("Row", row)


def _object(path: Path, place: str, text: bytes) -> Row:
    try:
        row = json.loads(text)
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        raise UserError(
            f"{path}, {place} is not JSON: {error}; mend or drop it. A file holds one object a "
            "line, or one array of objects"
        ) from None
    if not isinstance(row, dict):
        _not_a_row(path, place, row)
    return cast("Row", row)


def _not_a_row(path: Path, place: str, value: object) -> NoReturn:
    raise UserError(
        f"{path}, {place} is {value!r:.80}, no row: an object of columns such as "
        '{"question": "1 + 1 = ?", "answer": "2"}'
    )


def csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a file with a header: texts, numbers where they are written as one; "" is None.

    A column is numbers only where every row's text is one's plain form: "1.50" stays text, and so
    does all of its column. No word, such as NA, stands for nothing.

    Raises:
        UserError: names the row of another length, or a header with a name twice.
    """
    csv.field_size_limit(sys.maxsize)  # images in base64 are long
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if len(set(header)) < len(header) or not header:
                raise UserError(f"{path}: the header {header} is empty or has a name twice")
            for number, values in enumerate(lines, start=1):
                if values and len(values) != len(header):
                    raise UserError(
                        f"{path}, row {number:,} (that ends in line {lines.line_num:,}) has "
                        f"{len(values)} values for {len(header)} columns; mend it"
                    )
                if values:
                    yield dict(zip(header, (value or None for value in values), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not CSV in UTF-8: {error}; mend it") from None


def _json_types(files: Sequence[Path]) -> dict[str, ColumnType]:
    types: dict[str, ColumnType] = {}
    for path in files:
        for row in json_rows(path):
            for name, value in row.items():
                types.setdefault(name, ColumnType()).look(value)
    return types


def _csv_types(files: Sequence[Path]) -> dict[str, ColumnType]:
    """Numbers where all of a column are of one kind, texts elsewhere."""
    types: dict[str, ColumnType] = {}
    for path in files:
        for row in csv_rows(path):
            for name, value in row.items():
                own = types.setdefault(name, ColumnType())
                if own.kind != "json":
                    own.look(None if value is None else number_of_text(value))
    for name, own in types.items():
        if own.kind == "json":
            types[name] = ColumnType()
            types[name].look("")
    return types


def _csv_values(files: Sequence[Path], types: Mapping[str, ColumnType]) -> Iterator[Row]:
    numbers = {name for name, own in types.items() if own.kind in ("int64", "float64")}
    for path in files:
        for row in csv_rows(path):
            yield {
                name: number_of_text(value) if name in numbers and value is not None else value
                for name, value in row.items()
            }


def _json_values(files: Sequence[Path], types: Mapping[str, ColumnType]) -> Iterator[Row]:
    mixed = {name for name, own in types.items() if own.mixed}
    for path in files:
        for row in json_rows(path):
            if mixed:
                row = {n: types[n].stored(v) if n in mixed else v for n, v in row.items()}
            yield row


Types = Callable[[Sequence[Path]], dict[str, ColumnType]]
Values = Callable[[Sequence[Path], Mapping[str, ColumnType]], Iterator[Row]]
READERS: dict[str, tuple[Types, Values]] = {
    "json": (_json_types, _json_values),
    "csv": (_csv_types, _csv_values),
}
"""By what `datasets` calls the kind of file."""


def arrow_files(splits: Mapping[str, Sequence[Path]], kind: str) -> dict[str, Path]:
    """An Arrow file for each split's files, all of one schema; made where files are new or changed.

    Args:
        kind: of READERS.

    Raises:
        UserError: a file cannot be read, with the place that is wrong, or there are no rows.
    """
    stats = [
        (split, path.resolve(), path.stat().st_size, path.stat().st_mtime_ns)
        for split, files in splits.items()
        for path in files
    ]
    digest = code_digest((__file__, column_types.__file__), kind, *stats)
    folder = cache_folder() / "tables" / digest
    get_or_build(folder, lambda aside: _write(splits, kind, aside))
    return {split: folder / f"{split}.arrow" for split in splits}


def _write(splits: Mapping[str, Sequence[Path]], kind: str, folder: Path) -> None:
    look, values = READERS[kind]
    everything = [path for files in splits.values() for path in files]
    types = look(everything)
    if not types:
        raise UserError(f"there are no rows in {', '.join(map(str, everything))}")
    features = _hub.Features({name: own.feature for name, own in types.items()})
    plain = _Arrow.schema([(name, own.storage) for name, own in types.items()])
    for split, files in splits.items():
        with _Arrow.ipc.new_stream(str(folder / f"{split}.arrow"), features.arrow_schema) as out:
            for batch in _batches(values(files, types), split):
                table = _Arrow.Table.from_pylist(batch, schema=plain)
                out.write_table(table.cast(features.arrow_schema))


def _batches(rows: Iterator[Row], split: str) -> Iterator[list[Row]]:
    """Rows by the thousand, in each of which texts are texts."""
    first = 0
    while batch := list(islice(rows, _BATCH)):
        try:
            json.dumps(batch, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            at = error.object[max(error.start - 30, 0) : error.start + 30]
            raise UserError(
                f"one of the rows {first:,} to {first + len(batch) - 1:,} (from 0) of {split!r} "
                f"holds half a surrogate pair, which is no text: {at!r}; mend it"
            ) from None
        yield batch
        first += len(batch)
