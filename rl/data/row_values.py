"""Values of a data set's row, checked one by one."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from rl.data.images import BadImage, ImageFault, open_image

RowFault = Literal[
    ImageFault,
    "no_question",
    "no_answer",
    "no_id",
    "duplicate_id",
    "unknown_role",
    "malformed",
    "marks",
    "unprocessable",
    "too_long",
]


class BadRow(ValueError):
    """A row that cannot be used; `fault` is one word for counting."""

    def __init__(self, fault: RowFault, detail: str) -> None:
        super().__init__(detail)
        self.fault: RowFault = fault


def row_id(row: Mapping[str, Any], number: int, column: str | None) -> str:
    """The row's own name, or its number in the data where no column is named for that."""
    if column is None:
        return str(number)
    value = row[column]
    if value is None or value == "":
        raise BadRow("no_id", f"{column} is {shown(value)}")
    return str(value)


def check_images(images: Sequence[bytes | str], max_pixels: int) -> None:
    """Decode each image once, in full. Raises BadRow with the first that is broken or too big."""
    for place, image in enumerate(images):
        try:
            open_image(image, max_pixels)
        except BadImage as error:
            raise BadRow(error.fault, f"image {place}: {error}") from error


def images_in(value: Any, folders: Sequence[Path]) -> Iterable[bytes | str]:
    """Images of one cell: None, bytes, a path, a data URL, {"bytes", "path"}, a list of these."""
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
    return _within(name.removeprefix("file://"), folders)


def _within(path: str, folders: Sequence[Path]) -> str:
    """`path` made absolute, links followed; data may not reach for files that are not its own."""
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
