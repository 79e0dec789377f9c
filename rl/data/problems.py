"""Problems of a data set: checked once, then read by step.

Images are never all in memory: rows are read from a memory-mapped table when they are needed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema.data import DataConfig
from rl.data.order import ShuffledOrder
from rl.data.problem_rows import problem_from
from rl.data.records import Problem
from rl.data.row_checks import Checked, TooManyRejected, check_rows
from rl.data.row_values import check_columns, top_column
from rl.tables.sources import Source, open_source

__all__ = ["ProblemSet", "TooManyRejected"]


class ProblemSet:
    """The usable rows of one split, in an order that only seed and step decide."""

    def __init__(
        self,
        source: Source,
        make: Callable[[Mapping[str, Any], int], Problem],
        found: Checked,
        seed: int,
    ) -> None:
        self.rejected = found.rejected
        """Rows left out, by reason."""
        self.fingerprints: NDArray[np.uint64] = np.array(found.fingerprints, dtype=np.uint64)
        """[n] of the usable rows, in the data's own order."""
        self._source = source
        self._make = make
        self._usable = found.numbers
        self._order = ShuffledOrder(len(found.numbers), seed)

    @classmethod
    def open(
        cls,
        data: DataConfig,
        *,
        measure: Callable[[Problem], int],
        max_tokens: int,
        rejected: Path,
        seed: int,
    ) -> "ProblemSet":
        """Check every row of `data`; write those that cannot be used to `rejected` (JSONL).

        Args:
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
        } | {f"reward_columns, {column}": column for column in data.reward_columns}
        check_columns(source, named)
        read = [top_column(c, source.columns) for c in named.values() if c is not None]
        source = source.select_columns(dict.fromkeys(c for c in read if c is not None))
        make = partial(problem_from, data=data, folders=source.folders)
        found = check_rows(source, data, make, measure, max_tokens, rejected)
        return cls(source, make, found, seed)

    def __len__(self) -> int:
        return len(self._usable)

    def take(self, count: int, *, step: int) -> list[Problem]:
        """The `count` problems of `step` (0, 1, ...).

        Steps walk through one permutation of all problems an epoch, so that none is lost or asked
        twice within an epoch, wherever an epoch ends within a step.
        """
        return self.select(self._order.items(step * count, count))

    def first(self, count: int | None) -> list[Problem]:
        """The first `count` problems in the data's own order; None: all."""
        return self.select(range(len(self))[:count])

    def select(self, indices: Sequence[int]) -> list[Problem]:
        """The problems at `indices`, places in the data's own order without its unusable rows."""
        numbers = [self._usable[index] for index in indices]
        rows = self._source.select_rows(numbers)
        return [self._make(row, number) for row, number in zip(rows, numbers, strict=True)]
