"""Problems of a data set: checked once, then asked by step.

Images are never all in memory: a row is read from a memory-mapped table when it is asked.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.loading.suggest import closest_match
from configs.schema.data import DataConfig
from rl.data.order import ShuffledOrder
from rl.data.problem_rows import problem_from
from rl.data.records import Problem
from rl.data.row_checks import TooManyRejected, check_rows
from rl.data.sources import Source, open_source

__all__ = ["ProblemSet", "TooManyRejected"]


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
        self._order = ShuffledOrder(len(usable), seed)

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
        source = source.select_columns(_check_columns(source, data))

        def make(row: Mapping[str, Any], number: int) -> Problem:
            return problem_from(row, number, data, source.folders)

        found = check_rows(source, data, make, measure, max_prompt_tokens, rejected)
        return cls(source, data, found.numbers, found.rejected, seed)

    def __len__(self) -> int:
        return len(self._usable)

    def take(self, count: int, *, step: int) -> list[Problem]:
        """The `count` problems of `step` (0, 1, ...).

        Steps walk through one permutation of all problems an epoch, so that none is lost or asked
        twice within an epoch, wherever an epoch ends within a step.
        """
        return self._problems(self._order.items(step * count, count))

    def first(self, count: int | None) -> list[Problem]:
        """The first `count` problems in the data's own order; None: all."""
        return self._problems(list(range(len(self))[:count]))

    def _problems(self, places: list[int]) -> list[Problem]:
        numbers = [self._usable[place] for place in places]
        rows = self._source.select_rows(numbers)
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
        hint = closest_match(column, source.columns)
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
