"""Makes problems of the rows of published benchmarks, in the columns that the hub has them in."""

import ast
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, cast

from rl.benchmarks.evaluation import SUBJECT
from rl.data.records import IMAGE_MARK, Problem
from rl.data.row_values import BadRow, images_in, row_id, shown

Row = Mapping[str, Any]

_MMMU_MARK = re.compile(r"<image (\d)>")
_MMMU_ID = re.compile(r"(?:dev|validation|test)_(\w+?)_\d+")
MMMU_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
GPQA_WRONG = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class Prompting:
    """What rows are made into problems with, beside themselves."""

    instruction: str
    """Behind a question that is not multiple-choice."""
    choice_instruction: str
    """Behind a multiple-choice question."""
    options_seed: int
    """Shuffles options that the data gives with the right one first."""
    folders: Sequence[Path] = ()
    """Resolved folders that image paths may lead into."""


MakeProblem = Callable[[Row, int, Prompting], Problem]
"""A problem of a row and its number. BadRow where the row cannot be used."""


def math_500(row: Row, number: int, how: Prompting) -> Problem:
    """HuggingFaceH4/MATH-500: problem, answer, subject, level, unique_id."""
    problem = _open_question(row, number, how, id_column="unique_id")
    return _with_fields(problem, {SUBJECT: [str(row["subject"]), f"level {row['level']}"]})


def aime(row: Row, number: int, how: Prompting) -> Problem:
    """HuggingFaceH4/aime_2024 and math-ai/aime25: problem, answer, id."""
    return _open_question(row, number, how, id_column="id")


def gpqa(row: Row, number: int, how: Prompting) -> Problem:
    """Idavidrein/gpqa: Question, Correct Answer, Incorrect Answer 1 to 3, Record ID, domains.

    Options stand in an order that only the row's id and `options_seed` decide.
    """
    name = row_id(row, number, "Record ID")
    right = _text(row, "Correct Answer", "no_answer")
    options = [right, *(_text(row, column, "no_answer") for column in GPQA_WRONG)]
    places = list(range(len(options)))
    random.Random(f"{how.options_seed}:{name}").shuffle(places)
    return Problem(
        id=name,
        question=_choice_question(
            _text(row, "Question", "no_question"), [options[place] for place in places], how
        ),
        gold=(ascii_uppercase[places.index(0)],),
        fields={
            "options": [options[place] for place in places],
            "reward": "choice",
            SUBJECT: str(row["High-level domain"]),
        },
    )


def mmmu(row: Row, number: int, how: Prompting) -> Problem:
    """MMMU/MMMU: question, options (a list as text), answer, image_1 to image_7, question_type.

    `<image n>` marks the place of image_n, in the question or in an option. A further mark of the
    same image becomes words, since an image is shown once; images without a mark come first.
    """
    name = row_id(row, number, "id")
    options = _listed(row["options"])
    choice = row["question_type"] == "multiple-choice"
    question = _text(row, "question", "no_question")
    asked = (
        _choice_question(question, options, how) if choice else _asked(question, how.instruction)
    )
    asked, order = _marked(asked)
    images = {n: list(images_in(row[c], how.folders)) for n, c in enumerate(MMMU_IMAGES, start=1)}
    if missing := [n for n in order if not images.get(n)]:
        raise BadRow(
            "missing_image", f"<image {missing[0]}> is marked and image_{missing[0]} empty"
        )
    unmarked = [n for n in images if images[n] and n not in order]
    answer = _text(row, "answer", "no_answer")
    if answer == "?":  # as in the test split, whose answers are not published
        raise BadRow("no_answer", "answer is '?'")
    gold = (answer,) if choice else tuple(_listed(answer)) or (answer,)
    fields: dict[str, Any] = {"reward": "choice" if choice else "math"}
    if choice:
        fields["options"] = options
    if subject := _MMMU_ID.fullmatch(name):
        fields[SUBJECT] = subject[1]
    return Problem(
        name, asked, gold, tuple(i for n in [*unmarked, *order] for i in images[n]), fields
    )


def mathvista(row: Row, number: int, how: Prompting) -> Problem:
    """AI4Math/MathVista: question, decoded_image, choices, unit, precision, answer, types, pid.

    Right answers of multiple choice are given as the option's text; here as its letter. Numbers
    are compared at the row's precision, lists as mathematics, other texts literally.
    """
    question = _text(row, "question", "no_question")
    answer = _text(row, "answer", "no_answer")
    fields: dict[str, Any] = {SUBJECT: [str(row["metadata"]["task"])]}
    if row["question_type"] == "multi_choice":
        options = [str(option) for option in row["choices"] or ()]
        if answer not in options:
            raise BadRow("no_answer", f"answer {shown(answer)} is none of {shown(options)}")
        fields |= {"reward": "choice", "options": options}
        answer = ascii_uppercase[options.index(answer)]
        asked = _choice_question(question, options, how)
    else:
        fields |= _mathvista_rule(row)
        wanted = [f"(Unit: {row['unit']})"] if row["unit"] else []
        if "precision" in fields:
            wanted.append(f"Give a number with {fields['precision']} decimal places.")
        asked = _asked("\n".join([question, *wanted]), how.instruction)
    images = tuple(images_in(row["decoded_image"], how.folders))
    if not images:
        raise BadRow("missing_image", "decoded_image is empty")
    return Problem(row_id(row, number, "pid"), asked, (answer,), images, fields)


def _mathvista_rule(row: Row) -> dict[str, Any]:
    kind, precision = row["answer_type"], row["precision"]
    if kind == "float" and precision is not None:
        return {"reward": "numeric", "precision": int(precision)}
    rules = {"integer": "numeric", "float": "numeric", "list": "math"}
    return {"reward": rules.get(kind, "exact")}


def _open_question(row: Row, number: int, how: Prompting, id_column: str) -> Problem:
    question = _text(row, "problem", "no_question")
    return Problem(
        id=row_id(row, number, id_column),
        question=_asked(question, how.instruction),
        gold=(_text(row, "answer", "no_answer"),),
        fields={"reward": "math"},
    )


def _with_fields(problem: Problem, fields: Mapping[str, Any]) -> Problem:
    return Problem(
        problem.id, problem.question, problem.gold, problem.images, {**problem.fields, **fields}
    )


def _choice_question(question: str, options: Sequence[str], how: Prompting) -> str:
    """The question with a line an option, and the instruction."""
    lines = [f"({letter}) {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]
    return _asked("\n".join([question, *lines]), how.choice_instruction)


def _asked(question: str, instruction: str) -> str:
    return f"{question}\n{instruction}" if instruction else question


def _marked(text: str) -> tuple[str, list[int]]:
    """The text with an image's mark where it is named first, and the images' numbers in order."""
    order: list[int] = []

    def mark(match: re.Match[str]) -> str:
        number = int(match[1])
        if number in order:
            return f"(image {order.index(number) + 1} above)"
        order.append(number)
        return IMAGE_MARK

    return _MMMU_MARK.sub(mark, text), order


def _listed(value: Any) -> list[str]:
    """A list that is written as text, as one of Python; empty where it is none."""
    if isinstance(value, list):
        return [str(each) for each in cast("list[Any]", value)]
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return []
    try:
        listed: Any = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return []
    return [str(each) for each in listed] if isinstance(listed, list) else []


def _text(row: Row, column: str, fault: Any) -> str:
    """The text in a column. BadRow with `fault` where it is empty."""
    value = row[column]
    text = "" if value is None else str(value).strip()
    if not text:
        raise BadRow(fault, f"{column} is {shown(value)}")
    return text
