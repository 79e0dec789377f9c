"""Makes a preference pair of a row of data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.schema.data import ChatDataConfig, PreferenceDataConfig
from rl.data.chat_formats import IMAGE_COLUMNS, ChatColumns
from rl.data.chat_rows import chat_from
from rl.data.records import Pair
from rl.data.row_values import BadRow, check_columns
from rl.data.sources import Source


def pair_columns(source: Source, data: PreferenceDataConfig) -> tuple[ChatColumns, ChatColumns]:
    """How the chosen and the rejected chat of a row are read.

    Raises:
        ValueError: a column that the recipe names is missing.
    """
    named = {"chosen_column": data.chosen_column, "rejected_column": data.rejected_column}
    named |= {"image_column": data.image_column, "id_column": data.id_column}
    prompt = data.prompt_column
    check_columns(source, named | {"prompt_column": prompt})
    images = data.image_column or next((c for c in IMAGE_COLUMNS if c in source.columns), None)

    def read(column: str) -> ChatColumns:
        if prompt is None:
            return ChatColumns("messages", (column,), images)
        return ChatColumns("prompt_completion", (prompt, column), images)

    return read(data.chosen_column), read(data.rejected_column)


def pair_from(
    row: Mapping[str, Any],
    number: int,
    data: PreferenceDataConfig,
    layouts: tuple[ChatColumns, ChatColumns],
    folders: Sequence[Path],
) -> Pair:
    """The pair in `row`; of each chat the last answer is learned.

    Args:
        number, folders: as for a chat.

    Raises:
        BadRow: one of the chats cannot be read, the two do not begin alike, or they end alike.
    """
    as_chat = ChatDataConfig(source=data.source, id_column=data.id_column, turns="last")
    chosen, rejected = (chat_from(row, number, as_chat, each, folders) for each in layouts)
    if chosen.turns[:-1] != rejected.turns[:-1] or chosen.images != rejected.images:
        raise BadRow("prompts_differ", "the chosen and the rejected answer have different prompts")
    if chosen.turns[-1] == rejected.turns[-1]:
        raise BadRow("no_preference", "the chosen and the rejected answer are the same")
    return Pair(chosen, rejected)
