"""Makes a problem of a row of data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from configs.schema.data import DataConfig
from rl.data.chat_formats import listed_messages
from rl.data.chat_rows import turns_of
from rl.data.records import IMAGE_MARK, Problem, Turn
from rl.data.row_values import (
    BadRow,
    cell,
    forms_of,
    images_in,
    refuse_videos,
    row_id,
    shown,
)


def problem_from(
    row: Mapping[str, Any], number: int, data: DataConfig, folders: Sequence[Path]
) -> Problem:
    """The problem in `row`; images stay encoded, paths are made absolute.

    Args:
        number: the row's number, its id where the recipe names no id column.
        folders: resolved folders that image paths may lead into.

    Raises:
        BadRow: question, answer or id are missing; an image is missing or lies outside `folders`;
            the question marks more images than there are; or there is a video.
    """
    refuse_videos(row)
    (*context, last), own = _asked(cell(row, data.question_column), data, folders)
    if last.role != "user" or not last.text.strip():
        raise BadRow("no_question", f"{data.question_column} ends with no question: {last.text!r}")
    if data.system_column is not None:
        context = [*_system(cell(row, data.system_column), context), *context]
    images: tuple[bytes | str, ...] = ()
    if data.image_column is not None:
        images = tuple(images_in(cell(row, data.image_column), folders))
    if own and images:
        raise BadRow("malformed", f"images in {data.question_column} and in {data.image_column}")
    images = own or images
    marks = sum(turn.text.count(IMAGE_MARK) for turn in (*context, last))
    if marks > len(images):
        raise BadRow("missing_image", f"{marks} {IMAGE_MARK} marks for {len(images)} images")
    return Problem(
        id=row_id(row, number, data.id_column),
        question=last.text,
        gold=_gold(cell(row, data.answer_column), data.answer_column),
        images=images,
        fields={column: cell(row, column) for column in data.reward_columns},
        context=tuple(context),
    )


def _asked(
    value: Any, data: DataConfig, folders: Sequence[Path]
) -> tuple[list[Turn], tuple[bytes | str, ...]]:
    """The turns of a question, a text or messages of which the last asks, and images in them."""
    if isinstance(value, str):
        return [Turn("user", value)], ()
    if not isinstance(value, list) or not value:
        raise BadRow("no_question", f"{data.question_column} is {shown(value)}")
    turns, slots = turns_of(listed_messages(value, data.question_column), folders)
    own = tuple(slot for slot in slots if slot is not None)
    if own and len(own) < len(slots):
        raise BadRow("marks", f"{data.question_column} marks images that it does not hold")
    return turns, own


def _system(value: Any, context: Sequence[Turn]) -> list[Turn]:
    """The row's own system message; none where the cell is empty."""
    if value is None or value == "":
        return []
    if not isinstance(value, str) or any(turn.role == "system" for turn in context):
        raise BadRow("malformed", f"{shown(value)} cannot be the row's one system message")
    return [Turn("system", value)]


def _gold(value: Any, column: str) -> tuple[str, ...]:
    forms = cast("list[Any]", value) if isinstance(value, list) else [value]
    gold = tuple(dict.fromkeys(form for each in forms for form in forms_of(each)))
    if not gold:
        raise BadRow("no_answer", f"{column} is {shown(value)}")
    return gold
