"""Problems of a data set: checked once, then asked by step.

Images are never all in memory: a row is read from a memory-mapped table when it is asked.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from configs.fields import nearest
from configs.schema import DataConfig
from rl.console import phase
from rl.cursor import Cursor
from rl.problem_rows import BadRow, check_images, problem_from
from rl.records import Problem
from rl.sources import Source, open_source

_ROWS_AT_A_TIME = 64
_EXAMPLES = 3


class TooManyRejected(ValueError):
    """More of the rows than the recipe allows cannot be used."""


class ProblemSet:
    """The usable rows of one split, in an order that only seed and step decide."""

    def __init__(
        self,
        source: Source,
        data: DataConfig,
        usable: list[int],
        rejected: Counter[str],
        seed: int,
    ) -> None:
        self.rejected = rejected
        """Rows left out, by reason."""
        self._source = source
        self._data = data
        self._usable = usable
        self._cursor = Cursor(len(usable), seed)

    @classmethod
    def open(
        cls,
        data: DataConfig,
        *,
        measure: Callable[[Problem], int],
        max_prompt_tokens: int,
        rejected: Path,
        seed: int,
    ) -> "ProblemSet":
        """Check every row of `data`; write those that cannot be used to `rejected` (JSONL).

        `measure` gives a problem's prompt in tokens, images included; it is called from this
        thread, and a ValueError of it rejects the row.

        Raises:
            ValueError: the source or a column does not exist, or no row can be used.
            TooManyRejected: their share is above `data.max_rejected_share`.
        """
        source = open_source(data.source, data.split)
        source = source.only(_check_columns(source, data))
        total = min(len(source), data.limit or len(source))
        if not total:
            raise ValueError(f"data.source {data.source!r}, split {data.split!r}, has no rows")
        usable: list[int] = []
        faults: list[dict[str, Any]] = []
        rejected.parent.mkdir(parents=True, exist_ok=True)
        with (
            rejected.open("w", encoding="utf-8") as out,
            phase(f"checking problems of {data.source}", total) as work,
        ):
            for fault, number in _checked(source, data, total, measure, max_prompt_tokens):
                if fault is None:
                    usable.append(number)
                else:
                    faults.append(fault)
                    out.write(json.dumps(fault, ensure_ascii=False) + "\n")
                work.advance(note=f"{len(faults):,} rejected" if faults else None)
        if not usable or len(faults) > data.max_rejected_share * total:
            raise TooManyRejected(_worst(faults, total, data, rejected))
        return cls(source, data, usable, Counter(f["reason"] for f in faults), seed)

    def __len__(self) -> int:
        return len(self._usable)

    def take(self, count: int, *, step: int) -> list[Problem]:
        """The `count` problems of `step` (0, 1, ...).

        Steps walk through one permutation of all problems an epoch, so that none is lost or asked
        twice within an epoch, wherever an epoch ends within a step.
        """
        return self._problems(self._cursor.window(step * count, count))

    def first(self, count: int | None) -> list[Problem]:
        """The first `count` problems in the data's own order; None: all."""
        return self._problems(list(range(len(self))[:count]))

    def _problems(self, places: list[int]) -> list[Problem]:
        numbers = [self._usable[place] for place in places]
        rows = self._source.picked(numbers)
        return [
            problem_from(row, number, self._data, self._source.folders)
            for row, number in zip(rows, numbers, strict=True)
        ]


def _check_columns(source: Source, data: DataConfig) -> list[str]:
    """The columns that the recipe names. ValueError when the source lacks one."""
    named = {
        "question_column": data.question_column,
        "answer_column": data.answer_column,
        "image_column": data.image_column,
        "id_column": data.id_column,
    } | {f"reward_columns, {column}": column for column in data.reward_columns}
    faults: list[str] = []
    for field, column in named.items():
        if column is None or column in source.columns:
            continue
        hint = nearest(column, source.columns)
        advice = [f"did you mean {hint!r}?"] if hint else []
        if field == "image_column":
            advice.append("data without images needs data.image_column=null")
        faults.append(f"data.{field} is {column!r}, which is no column; {' '.join(advice)}")
    if faults:
        columns = ", ".join(source.columns)
        raise ValueError(
            "\n  ".join([f"data.source {data.source!r} has the columns {columns}:", *faults])
        )
    return list(dict.fromkeys(column for column in named.values() if column is not None))


def _checked(
    source: Source,
    data: DataConfig,
    total: int,
    measure: Callable[[Problem], int],
    max_prompt_tokens: int,
) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """(None or the line for the rejected, row number) of each row. Images decode in threads."""
    seen: dict[str, int] = {}
    threads = min(8, os.cpu_count() or 1)
    decode = partial(_decoded, data=data, source=source)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, total, _ROWS_AT_A_TIME):
            stop = min(start + _ROWS_AT_A_TIME, total)
            rows = source.rows(start, stop)
            numbers = range(start, stop)
            for number, row, outcome in zip(
                numbers, rows, pool.map(decode, rows, numbers), strict=True
            ):
                try:
                    if isinstance(outcome, BadRow):
                        raise outcome
                    _check_new(outcome, number, seen)
                    _check_length(outcome, measure, max_prompt_tokens)
                except BadRow as error:
                    yield _line(row, number, data, error), number
                else:
                    yield None, number


def _decoded(
    row: dict[str, Any], number: int, data: DataConfig, source: Source
) -> Problem | BadRow:
    try:
        problem = problem_from(row, number, data, source.folders)
        check_images(problem, data.max_image_pixels)
    except BadRow as error:
        return error
    return problem


def _check_new(problem: Problem, number: int, seen: dict[str, int]) -> None:
    before = seen.setdefault(problem.id, number)
    if before != number:
        raise BadRow("duplicate_id", f"id {problem.id!r} is that of row {before} too")


def _check_length(problem: Problem, measure: Callable[[Problem], int], limit: int) -> None:
    try:
        tokens = measure(problem)
    except ValueError as error:
        raise BadRow("unprocessable", str(error)) from error
    if tokens > limit:
        raise BadRow("too_long", f"{tokens:,} prompt tokens are more than {limit:,}")


def _line(row: dict[str, Any], number: int, data: DataConfig, error: BadRow) -> dict[str, Any]:
    name = str(number if data.id_column is None else row[data.id_column])
    return {"row": number, "id": name, "reason": error.fault, "detail": str(error)}


def _worst(faults: list[dict[str, Any]], total: int, data: DataConfig, rejected: Path) -> str:
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
