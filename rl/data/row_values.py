"""Columns and values of a data set, checked one by one."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from configs.loading.suggest import closest_match
from rl.console.errors import UserError
from rl.data.images import BadImage, ImageFault, open_image
from rl.tables.sources import Source

RowFault = Literal[
    ImageFault,
    "no_question",
    "no_answer",
    "no_id",
    "duplicate_id",
    "unknown_role",
    "malformed",
    "marks",
    "video",
    "unprocessable",
    "too_long",
    "bad_gold",
    "prompts_differ",
    "no_preference",
]


class BadRow(ValueError):
    """A row that cannot be used; `fault` is one word for counting."""

    def __init__(self, fault: RowFault, detail: str) -> None:
        super().__init__(detail)
        self.fault: RowFault = fault


def check_columns(source: Source, wanted: Mapping[str, str | None]) -> None:
    """Check that `source` has all columns of `wanted`, given by the recipe's fields that name them.

    Raises:
        ValueError: with each column that is missing, and its nearest name.
    """
    faults: list[str] = []
    for field, column in wanted.items():
        if column is None or top_column(column, source.columns) is not None:
            continue
        hint = closest_match(column, source.columns)
        fault = f"data.{field} is {column!r}, which is no column"
        fault += f"; did you mean {hint!r}?" if hint else ""
        if field == "image_column":
            fault += "; data without images needs data.image_column=null"
        faults.append(fault)
    if faults:
        raise UserError("\n  ".join([columns_of(source), *faults]))


def top_column(name: str, columns: Sequence[str]) -> str | None:
    """The column that `name` is, or lies in where it is dotted; None where there is none."""
    if name in columns:
        return name
    head = name.partition(".")[0]
    return head if head != name and head in columns else None


def cell(row: Mapping[str, Any], name: str) -> Any:
    """The value in column `name`, or within one by a dotted name, as `reward_model.ground_truth`.

    Raises:
        BadRow: the row has nothing of that name.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise BadRow("malformed", f"there is no {name} in this row: {part!r} is missing")
        value = cast("Mapping[str, Any]", value)[part]
    return value


_VIDEO_COLUMNS = ("video", "videos")


def video_columns(source: Source) -> list[str]:
    """The columns of `source` that nobody reads, and that a row may leave empty only."""
    return [column for column in _VIDEO_COLUMNS if column in source.columns]


def refuse_videos(row: Mapping[str, Any]) -> None:
    """BadRow where a row has videos beside its text."""
    for column in _VIDEO_COLUMNS:
        if row.get(column) not in (None, "", [], {}):
            raise BadRow("video", f"{column} holds {shown(row[column])}, and {NO_VIDEOS}")


NO_VIDEOS = "videos are not read: leave such rows out, or give their frames as images"


def forms_of(value: Any) -> tuple[str, ...]:
    """The texts that a number or text stands for; none when there is nothing in it.

    A column of whole numbers with a gap is read as floats: 5.0 is "5" there, and may be "5.0".
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return (str(int(value)), str(value))
    text = str(value).strip()
    return (text,) if text else ()


def columns_of(source: Source) -> str:
    """The first line of an error about the columns of `source`."""
    return f"data.source {source.name!r} has the columns {', '.join(source.columns)}:"


def row_id(row: Mapping[str, Any], number: int, column: str | None) -> str:
    """The row's id in `column`, or its number where `column` is None. BadRow if it is empty."""
    if column is None:
        return str(number)
    value = cell(row, column)
    forms = forms_of(value)
    if not forms:
        raise BadRow("no_id", f"{column} is {shown(value)}")
    return forms[0]


def check_images(images: Sequence[bytes | str], max_pixels: int) -> None:
    """Decode each image once, in full. Raises BadRow with the first that is broken or too big."""
    for place, image in enumerate(images):
        try:
            open_image(image, max_pixels)
        except BadImage as error:
            raise BadRow(error.fault, f"image {place}: {error}") from error


def images_in(value: Any, folders: Sequence[Path]) -> Iterable[bytes | str]:
    """The images of one cell: None, bytes, a path, a data or file URL, base64, {"bytes", "path"},
    or a list of these.

    Args:
        folders: resolved folders that paths may lead into; relative ones start at the first.

    Returns:
        Encoded images as bytes, or absolute paths.

    Raises:
        BadRow: an image is missing, lies outside `folders`, or the cell holds something else.
    """
    if value is None:
        return
    if isinstance(value, list):
        for each in cast("list[Any]", value):
            yield from images_in(each, folders)
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        yield _named(value, folders)
    elif isinstance(value, dict):
        cell = cast("dict[str, Any]", value)
        encoded, path = cell.get("bytes"), cell.get("path")
        if isinstance(encoded, bytes):
            yield encoded
        elif encoded is None and isinstance(path, str):
            yield _within(path, folders)
        else:
            raise BadRow("missing_image", f"{shown(cell)} holds neither bytes nor a path")
    else:
        raise BadRow("corrupt_image", f"{shown(value)} is neither bytes nor a path")


_BASE64_OF_IMAGES = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0AK")
"""What PNG, JPEG, GIF, WebP, BMP and TIFF files begin with, in base64."""
_LONGEST_NAME = 255
"""Of a file, bytes; a text that is longer and begins so is an image."""


def _named(name: str, folders: Sequence[Path]) -> bytes | str:
    """The file that a path or file URL means, or what a data URL holds."""
    if name.startswith("data:"):
        head, _, body = name.partition(",")
        try:
            return base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
        except ValueError as error:
            raise BadRow("corrupt_image", f"{shown(name)}: {error}") from error
    if name.startswith(("http://", "https://")):
        raise BadRow("missing_image", f"{shown(name)} is not on this machine; download it first")
    if name.startswith(_BASE64_OF_IMAGES) and len(name) > _LONGEST_NAME:
        try:
            return base64.b64decode(name, validate=True)
        except ValueError as error:
            raise BadRow("corrupt_image", f"{shown(name)}: {error}") from error
    return _within(name.removeprefix("file://"), folders)


def _within(path: str, folders: Sequence[Path]) -> str:
    """`path` made absolute, links followed. Data may not read files outside its own folders."""
    try:
        resolved = (folders[0] / path).resolve()
        exists = resolved.is_file()
    except (OSError, ValueError) as error:  # a name too long, a null character, links in a ring
        raise BadRow("missing_image", f"{shown(path)}: {error}") from error
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise BadRow(
            "image_outside_folder", f"{shown(path)} leads to {resolved}, outside {folders[0]}"
        )
    if not exists:
        raise BadRow("missing_image", f"there is no file {resolved}")
    return str(resolved)


def shown(value: Any) -> str:
    """`value` for an error text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
