"""Problems of a data set: checked once, then read by their places.

Images are never all in memory: rows are read from a memory-mapped table when they are needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema.data import DataConfig
from rl.console.errors import UserError
from rl.data.problem_rows import problem_from
from rl.data.records import Problem
from rl.data.row_checks import Checked, TooManyRejected, check_rows
from rl.data.row_values import BadRow, cell, check_columns, shown, top_column, video_columns
from rl.tables.sources import Source, open_source

__all__ = ["ProblemSet", "TooManyRejected"]

_ROWS_AT_A_TIME = 4096


class ProblemSet:
    """The usable rows of one split."""

    def __init__(
        self,
        source: Source,
        make: Callable[[Mapping[str, Any], int], Problem],
        found: Checked,
        name: str = "",
    ) -> None:
        """`name`: the source's among several: problems bear it, and their ids begin with it."""
        self.rejected = found.rejected
        """Rows left out, by reason."""
        self.fingerprints: NDArray[np.uint64] = np.array(found.fingerprints, dtype=np.uint64)
        """[n] of the usable rows, in the data's own order."""
        self._name = name
        self.ids = [f"{name}/{own}" for own in found.ids] if name else found.ids
        """Of the problems, in the data's own order."""
        self._source = source
        self._make = make
        self._usable = found.numbers

    @classmethod
    def open(
        cls,
        data: DataConfig,
        *,
        measure: Callable[[Problem], int],
        max_tokens: int,
        rejected: Path,
        name: str = "",
        sorted_by: str | None = None,
    ) -> "ProblemSet":
        """Check every row of `data`; write those that cannot be used to `rejected` (JSONL).

        Args:
            name: the source's among several.
            sorted_by: a column that `numbers_in` will be asked for.
            measure: length of a problem's prompt in tokens, image tokens included, called from
                this thread; ValueError rejects the row.
            max_tokens: rows with a longer prompt are rejected.

        Raises:
            ValueError: the source or a column does not exist, or no row can be used.
            TooManyRejected: their share is above `data.max_rejected_share`.
        """
        source = open_source(data.source, data.split)
        named = {
            "question_column": data.question_column,
            "answer_column": data.answer_column,
            "image_column": data.image_column,
            "id_column": data.id_column,
            "system_column": data.system_column,
            "curriculum.column": sorted_by,
        } | {f"reward_columns, {column}": column for column in data.reward_columns}
        check_columns(source, named)
        read = [top_column(c, source.columns) for c in named.values() if c is not None]
        wanted = [*(c for c in read if c is not None), *video_columns(source)]
        source = source.select_columns(dict.fromkeys(wanted))
        make = partial(problem_from, data=data, folders=source.folders)
        found = check_rows(source, data, make, measure, max_tokens, rejected)
        return cls(source, make, found, name)

    def __len__(self) -> int:
        return len(self._usable)

    def numbers_in(self, column: str) -> list[float]:
        """What `column`, which may lie within another by a dotted name, holds for each problem, as
        numbers.

        Raises:
            UserError: names the first problem whose value is none.
        """
        values: list[float] = []
        top = top_column(column, self._source.columns)
        assert top is not None, f"{column!r} was checked when the source was opened"
        cells = self._source.select_columns([top])
        for start in range(0, len(self), _ROWS_AT_A_TIME):
            for row in cells.select_rows(self._usable[start : start + _ROWS_AT_A_TIME]):
                value = _value(row, column)
                try:
                    values.append(float(value))
                except (TypeError, ValueError):
                    values.append(nan)
                if isnan(values[-1]):
                    named = self.ids[len(values) - 1]
                    raise UserError(
                        f"data.curriculum.column={column!r} of problem {named!r} is "
                        f"{shown(value)}, which is no number; mend the row, leave it out by "
                        "data.ids, or sort by another column"
                    )
        return values

    def first(self, count: int | None) -> list[Problem]:
        """The first `count` problems in the data's own order; None: all."""
        return self.select(range(len(self))[:count])

    def select(self, indices: Sequence[int]) -> list[Problem]:
        """The problems at `indices`, places in the data's own order without its unusable rows."""
        numbers = [self._usable[index] for index in indices]
        rows = self._source.select_rows(numbers) if numbers else []
        made = [self._make(row, number) for row, number in zip(rows, numbers, strict=True)]
        if not self._name:
            return made
        return [replace(one, id=f"{self._name}/{one.id}", source=self._name) for one in made]


def _value(row: Mapping[str, Any], column: str) -> Any:
    """None where the row has nothing of that name."""
    try:
        return cell(row, column)
    except BadRow:
        return None
