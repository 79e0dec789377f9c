"""Checks every row of a data set before a run starts."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from rl.console.errors import UserError
from rl.console.progress import CONSOLE, Phase, phase
from rl.data.row_outcomes import KnownMeasure, RowCheck, S
from rl.storage.atomic import atomic_file
from rl.storage.cache import cache_folder, code_digest
from rl.tables.sources import Source

_IDS_AT_A_TIME = 65_536
_EXAMPLES = 3


class TooManyRejected(UserError):
    """More of the rows than the recipe allows cannot be used."""


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
    def model_dump_json(self, *, exclude: set[str]) -> str: ...


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
    files: set[str] = field(default_factory=set[str])
    """Image files that rows name, usable or not."""


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
        measure: a sample's length in tokens; ValueError rejects the row, as unprocessable or, where
            it is a BadRow, for its own reason. A `KnownMeasure` may be sent to other processes, and
            what it found is kept: rows that were looked at so before are not looked at again.
        max_tokens: rows that are longer are rejected.

    Raises:
        UserError: there are no rows, or `data.ids` names one that is not there.
        TooManyRejected: none can be used, or the share of rejected rows is above
            `data.max_rejected_share`.
    """
    numbers = chosen_rows(source, data)
    check = RowCheck(source, data.id_column, data.max_image_pixels, make, measure, max_tokens)
    place = _kept_at(check, data, numbers)
    looked = None if place is None else _kept(place)
    if looked is None:
        with phase(f"checking rows of {data.source}", len(numbers)) as work:
            looked = _looked_at(check, numbers, work)
        if place is not None:
            _keep(place, *looked)
    else:
        CONSOLE.print(f"rows of {data.source} were checked before: {len(numbers):,}")
    found, faults = looked
    rejected.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(fault, ensure_ascii=False) + "\n" for fault in faults]
    rejected.write_text("".join(lines), "utf-8")
    if not found.numbers or len(faults) > data.max_rejected_share * len(numbers):
        raise TooManyRejected(_worst(faults, len(numbers), data, rejected))
    return found


Fault = dict[str, Any]
"""A line of the list of rejected rows."""


def _looked_at(
    check: RowCheck[Any], numbers: Sequence[int], work: Phase
) -> tuple[Checked, list[Fault]]:
    found, faults = Checked(), list[Fault]()
    ids: dict[str, int] = {}
    for row in check.outcomes(numbers):
        fault, detail = row.fault, row.detail
        found.files.update(row.files)
        if row.id is not None and (before := ids.setdefault(row.id, row.number)) != row.number:
            fault, detail = "duplicate_id", f"id {row.id!r} is that of row {before} too"
        if fault:
            faults.append({"row": row.number, "id": row.label, "reason": fault, "detail": detail})
        else:
            assert row.id is not None, "a usable row has made a sample"
            found.numbers.append(row.number)
            found.ids.append(row.id)
            found.tokens.append(row.tokens)
            found.has_image.append(row.has_image)
            found.fingerprints.append(row.fingerprint)
        work.advance(note=f"{len(faults):,} rejected" if faults else None)
    found.rejected.update(fault["reason"] for fault in faults)
    return found, faults


_CODE = [
    path
    for folder in ("configs/schema", "models/inputs", "rewards", "rl/data", "rl/tables")
    for path in sorted((Path(__file__).parents[2] / folder).rglob("*.py"))
]
_LIBRARIES = ("datasets", "math-verify", "pillow", "tokenizers", "transformers")
"""Code that decides what is found of a row."""
_GOES_UNSEEN = frozenset({"missing_image", "image_outside_folder"})
"""Faults that may be mended without a trace in the rows or in a file that they led to."""


def _kept_at(check: RowCheck[Any], data: RowsConfig, numbers: Sequence[int]) -> Path | None:
    """The file of what is found of these rows, by all that decides it; None: that is not known."""
    if not isinstance(check.measure, KnownMeasure):
        return None
    source = check.source
    decided_by = (
        *(source.fingerprint, source.columns, source.folders, list(numbers)),
        *(data.model_dump_json(exclude={"max_rejected_share"}), check.max_tokens),
        *(check.measure.settings, [version(library) for library in _LIBRARIES]),
    )
    code = code_digest(tuple(str(path) for path in _CODE))
    name = sha256(json.dumps([code, *map(str, decided_by)]).encode()).hexdigest()[:32]
    return cache_folder() / "row_checks" / f"{name}.json"


def _kept(place: Path) -> tuple[Checked, list[Fault]] | None:
    """What an earlier check found; None where there was none, or images have changed since."""
    try:
        said = json.loads(place.read_text("utf-8"))
    except FileNotFoundError:
        return None
    if any(_stamp(path) != stamp for path, stamp in said["files"].items()):
        return None
    found = said["found"]
    return Checked(**found | {"rejected": Counter(found["rejected"])}), said["faults"]


def _keep(place: Path, found: Checked, faults: list[Fault]) -> None:
    if not _GOES_UNSEEN.isdisjoint(found.rejected):
        return
    plain = {each.name: getattr(found, each.name) for each in fields(found)}
    files = {path: _stamp(path) for path in sorted(plain.pop("files"))}
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(place) as aside:
        aside.write_text(json.dumps({"found": plain, "faults": faults, "files": files}), "utf-8")


def _stamp(path: str) -> list[int]:
    """Size and time of change of a file; nothing where it is gone."""
    try:
        told = Path(path).stat()
    except OSError:
        return []
    return [told.st_size, told.st_mtime_ns]


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
