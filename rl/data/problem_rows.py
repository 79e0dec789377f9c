"""Makes a problem of a row of data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from configs.schema.data import DataConfig
from rl.data.records import IMAGE_MARK, Problem
from rl.data.row_values import BadRow, images_in, row_id, shown


def problem_from(
    row: Mapping[str, Any], number: int, data: DataConfig, folders: Sequence[Path]
) -> Problem:
    """The problem in `row`; images stay encoded, paths are made absolute.

    Args:
        number: the row's number, its id where the recipe names no id column.
        folders: resolved folders that image paths may lead into.

    Raises:
        BadRow: question, answer or id are missing; an image is missing or lies outside `folders`;
            or the question marks more images than there are.
    """
    question = row[data.question_column]
    if not isinstance(question, str) or not question.strip():
        raise BadRow("no_question", f"{data.question_column} is {shown(question)}")
    images: tuple[bytes | str, ...] = ()
    if data.image_column is not None:
        images = tuple(images_in(row[data.image_column], folders))
    marks = question.count(IMAGE_MARK)
    if marks > len(images):
        raise BadRow("missing_image", f"{marks} {IMAGE_MARK} marks for {len(images)} images")
    return Problem(
        id=row_id(row, number, data.id_column),
        question=question,
        gold=_gold(row[data.answer_column], data.answer_column),
        images=images,
        fields={column: row[column] for column in data.reward_columns},
    )


def _gold(value: Any, column: str) -> tuple[str, ...]:
    forms = cast("list[Any]", value) if isinstance(value, list) else [value]
    gold = tuple(form for each in forms if (form := _text(each)))
    if not gold:
        raise BadRow("no_answer", f"{column} is {shown(value)}")
    return gold


def _text(value: Any) -> str:
    """A form of the answer; empty when there is nothing in it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()
