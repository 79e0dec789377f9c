"""Chats of a data set: checked once by the driver, then read wherever they are needed.

Images are never all in memory: a row is read from a memory-mapped table when it is asked.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema.data import ChatDataConfig
from rl.data.chat_formats import ChatColumns, layout_of
from rl.data.chat_rows import chat_from
from rl.data.order import ShuffledOrder
from rl.data.records import Chat
from rl.data.row_checks import check_rows
from rl.data.sources import Source, open_source


@dataclass(frozen=True, slots=True)
class ChatIndex:
    """What a check of all rows found, for those who need not check again. Small enough to send."""

    rows: int
    """Rows of the source, usable or not."""
    numbers: NDArray[np.int64]
    """[n] the usable chats' rows."""
    lengths: NDArray[np.int32]
    """[n] their tokens, images included."""
    has_image: NDArray[np.bool_]
    """[n]"""
    rejected: Counter[str]
    """Rows left out, by reason."""


class ChatSet:
    """The usable chats of one split. A place is a chat's number among them."""

    def __init__(
        self, source: Source, data: ChatDataConfig, layout: ChatColumns, index: ChatIndex, seed: int
    ) -> None:
        self.index = index
        """What `reopen` needs."""
        self.cursor = ShuffledOrder(len(index.numbers), seed)
        """The order of places, epoch by epoch."""
        self._source = source
        self._data = data
        self._layout = layout

    @classmethod
    def open(
        cls,
        data: ChatDataConfig,
        *,
        measure: Callable[[Chat], int],
        max_tokens: int,
        rejected: Path,
        seed: int,
    ) -> "ChatSet":
        """Check every row of `data`; write those that cannot be used to `rejected` (JSONL).

        `measure` gives a chat's tokens, images included; it is called from this thread, and a
        ValueError of it rejects the row, as more than `max_tokens` do.

        Raises:
            ValueError: the source or a column does not exist, or the columns fit no format.
            TooManyRejected: no row can be used, or the share of those that cannot is above
                `data.max_rejected_share`.
        """
        source, layout = _source_of(data)

        def make(row: Mapping[str, Any], number: int) -> Chat:
            return chat_from(row, number, data, layout, source.folders)

        found = check_rows(source, data, make, measure, max_tokens, rejected)
        index = ChatIndex(
            rows=len(source),
            numbers=np.array(found.numbers, dtype=np.int64),
            lengths=np.array(found.tokens, dtype=np.int32),
            has_image=np.array(found.has_image, dtype=np.bool_),
            rejected=found.rejected,
        )
        return cls(source, data, layout, index, seed)

    @classmethod
    def reopen(cls, data: ChatDataConfig, index: ChatIndex, seed: int) -> "ChatSet":
        """The set whose `index` another process found, without checking it again.

        Raises:
            ValueError: the source has other rows here than there.
        """
        source, layout = _source_of(data)
        if len(source) != index.rows:
            raise ValueError(
                f"data.source {data.source!r} has {len(source):,} rows here, but {index.rows:,} "
                "where it was checked; give every node the same files"
            )
        return cls(source, data, layout, index, seed)

    def __len__(self) -> int:
        return len(self.index.numbers)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """[n] tokens of each chat, images included."""
        return self.index.lengths

    @property
    def has_image(self) -> NDArray[np.bool_]:
        """[n]"""
        return self.index.has_image

    @property
    def rejected(self) -> Counter[str]:
        """Rows left out, by reason."""
        return self.index.rejected

    def chats(self, places: Sequence[int]) -> list[Chat]:
        """The chats at `places`, in that order."""
        numbers = [int(self.index.numbers[place]) for place in places]
        rows = self._source.select_rows(numbers) if numbers else []
        return [
            chat_from(row, number, self._data, self._layout, self._source.folders)
            for row, number in zip(rows, numbers, strict=True)
        ]


def _source_of(data: ChatDataConfig) -> tuple[Source, ChatColumns]:
    source = open_source(data.source, data.split)
    layout = layout_of(source, data)
    source = source.select_columns(layout.columns(data))
    if data.image_folder is not None:
        source = replace(source, folders=(data.image_folder.expanduser().resolve(),))
    return source, layout
