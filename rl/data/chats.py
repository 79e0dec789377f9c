"""Chats of a data set, or pairs of them: checked once by the driver, then read by every rank.

Images are never all in memory: rows are read from a memory-mapped table when they are needed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema.data import ChatDataConfig, PreferenceDataConfig
from rl.console.errors import UserError
from rl.data.chat_formats import layout_of
from rl.data.chat_rows import chat_from, pair_columns, pair_from
from rl.data.order import ShuffledOrder
from rl.data.records import Chat, Pair
from rl.data.row_checks import check_rows
from rl.data.row_values import video_columns
from rl.tables.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class ChatIndex:
    """What a check of all rows found, so that other processes need not check again."""

    rows: int
    """Rows of the source, usable or not."""
    numbers: NDArray[np.int64]
    """[n] row numbers of the usable chats."""
    lengths: NDArray[np.int32]
    """[n] tokens of each, image tokens included."""
    has_image: NDArray[np.bool_]
    """[n]"""
    rejected: Counter[str]
    """Rows left out, by reason."""
    fingerprints: NDArray[np.uint64]
    """[n] 64 bits of each usable row's values."""


class ChatSet:
    """The usable chats, or pairs, of one split. An index is a chat's number among them."""

    def __init__(
        self,
        source: Source,
        make: Callable[[Mapping[str, Any], int], Chat | Pair],
        index: ChatIndex,
        seed: int,
    ) -> None:
        self.index = index
        """Small enough to send; `reopen` makes this set of it elsewhere."""
        self.cursor = ShuffledOrder(len(index.numbers), seed)
        """The order of indices, epoch by epoch."""
        self._source = source
        self._make = make

    @classmethod
    def open(
        cls,
        data: ChatDataConfig | PreferenceDataConfig,
        *,
        measure: Callable[[Chat | Pair], int],
        max_tokens: int,
        rejected: Path,
        seed: int,
    ) -> "ChatSet":
        """Check every row of `data`; write those that cannot be used to `rejected` (JSONL).

        Args:
            measure: a chat's length in tokens, image tokens included, called from this thread;
                ValueError rejects the row.
            max_tokens: rows that are longer are rejected.

        Raises:
            ValueError: the source or a column does not exist, or the columns fit no format.
            TooManyRejected: no row can be used, or the share of those that cannot is above
                `data.max_rejected_share`.
        """
        source, make = _source_of(data)
        found = check_rows(source, data, make, measure, max_tokens, rejected)
        index = ChatIndex(
            rows=len(source),
            numbers=np.array(found.numbers, dtype=np.int64),
            lengths=np.array(found.tokens, dtype=np.int32),
            has_image=np.array(found.has_image, dtype=np.bool_),
            rejected=found.rejected,
            fingerprints=np.array(found.fingerprints, dtype=np.uint64),
        )
        return cls(source, make, index, seed)

    @classmethod
    def reopen(
        cls, data: ChatDataConfig | PreferenceDataConfig, index: ChatIndex, seed: int
    ) -> "ChatSet":
        """The set whose `index` another process found; no row is checked again.

        Raises:
            ValueError: the source has another number of rows here.
        """
        source, make = _source_of(data)
        if len(source) != index.rows:
            raise UserError(
                f"data.source {data.source!r} has {len(source):,} rows here, but {index.rows:,} "
                "where it was checked; give every node the same files"
            )
        return cls(source, make, index, seed)

    def __len__(self) -> int:
        return len(self.index.numbers)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """[n] tokens of each chat, images included."""
        return self.index.lengths

    def chats(self, indices: Sequence[int]) -> list[Chat | Pair]:
        """The chats at `indices`, in that order."""
        numbers = [int(self.index.numbers[index]) for index in indices]
        rows = self._source.select_rows(numbers) if numbers else []
        return [self._make(row, number) for row, number in zip(rows, numbers, strict=True)]


def _source_of(
    data: ChatDataConfig | PreferenceDataConfig,
) -> tuple[Source, Callable[[Mapping[str, Any], int], Chat | Pair]]:
    """The rows of `data`, and what makes a chat or a pair of a row and its number."""
    source = open_source(data.source, data.split)
    if data.image_folder is not None:
        source = replace(source, folders=(data.image_folder.expanduser().resolve(),))
    if isinstance(data, PreferenceDataConfig):
        layouts = pair_columns(source, data)
        columns = [column for each in layouts for column in each.columns(data.id_column)]
        make = partial(pair_from, data=data, layouts=layouts, folders=source.folders)
        return source.select_columns(dict.fromkeys([*columns, *video_columns(source)])), make
    layout = layout_of(source, data)
    make = partial(chat_from, data=data, layout=layout, folders=source.folders)
    columns = [*layout.columns(data.id_column), *video_columns(source)]
    return source.select_columns(dict.fromkeys(columns)), make
