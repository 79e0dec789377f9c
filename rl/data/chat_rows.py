"""Makes a chat, or a preference pair of chats, of a row of data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, cast

from configs.schema.data import ChatDataConfig, PreferenceDataConfig
from rl.data.chat_formats import IMAGE_COLUMNS, ChatColumns, Message, refuse_unread
from rl.data.records import IMAGE_MARK, Chat, Pair, Turn
from rl.data.row_values import (
    NO_VIDEOS,
    BadRow,
    check_columns,
    images_in,
    refuse_videos,
    row_id,
    shown,
)
from rl.tables.sources import Source

Role = Literal["system", "user", "assistant"]
_ROLES: Mapping[Any, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_Slot = bytes | str | None
"""An image that a message itself holds; None: the next one of the image column."""


def chat_from(
    row: Mapping[str, Any],
    number: int,
    data: ChatDataConfig,
    layout: ChatColumns,
    folders: Sequence[Path],
) -> Chat:
    """The chat in `row`.

    Turns after the last one to be learned are left out. Images that no turn marks come first in the
    first question.

    Args:
        number: the row's number, its id where the recipe names no id column.
        folders: resolved folders that image paths may lead into.

    Raises:
        BadRow: question, answer or id are missing; a role or message is not known; images are
            missing or not as many as the turns mark; or there is a video.
    """
    refuse_videos(row)
    turns, slots = turns_of(layout.messages(row), folders, data.think_tags)
    waiting = [] if layout.images is None else list(images_in(row[layout.images], folders))
    if waiting and not slots:
        turns = _marked(turns, len(waiting))
        slots = [None] * len(waiting)
    if slots.count(None) != len(waiting):
        raise BadRow(
            "marks", f"turns mark {slots.count(None)} places for the {len(waiting)} images beside"
        )
    turns = _learned(turns, data.turns)
    column = iter(waiting)
    images = [next(column) if slot is None else slot for slot in slots]
    marks = sum(turn.text.count(IMAGE_MARK) for turn in turns)
    return Chat(row_id(row, number, data.id_column), tuple(turns), tuple(images[:marks]))


def turns_of(
    messages: Sequence[Message],
    folders: Sequence[Path],
    think_tags: tuple[str, str] = ("<think>", "</think>"),
) -> tuple[list[Turn], list[_Slot]]:
    """The messages as turns, and the images that they mark or hold, in their order.

    Raises:
        BadRow: a role or message is not known, or somebody else than the assistant reasons.
    """
    turns: list[Turn] = []
    slots: list[_Slot] = []
    for message in messages:
        role = _ROLES.get(message.role) if isinstance(message.role, str) else None
        if role is None:
            raise BadRow("unknown_role", f"{shown(message.role)} is none of {', '.join(_ROLES)}")
        text, own = _content(message.content, folders)
        if message.reasoning:
            opened, closed = think_tags
            if role != "assistant" or opened in text:
                raise BadRow("malformed", f"reasoning beside {shown(text)} has no place there")
            text = f"{opened}\n{message.reasoning}\n{closed}\n\n{text}"
        turns.append(Turn(role, text, message.trained or role != "assistant"))
        slots += own
    return turns, slots


def pair_columns(source: Source, data: PreferenceDataConfig) -> tuple[ChatColumns, ChatColumns]:
    """How the chosen and the rejected chat of a row are read.

    Raises:
        ValueError: a column that the recipe names is missing.
    """
    named = {"chosen_column": data.chosen_column, "rejected_column": data.rejected_column}
    named |= {"image_column": data.image_column, "id_column": data.id_column}
    named["system_column"] = data.system_column
    prompt = data.prompt_column
    check_columns(source, named | {"prompt_column": prompt})
    refuse_unread(source, data)
    images = data.image_column or next((c for c in IMAGE_COLUMNS if c in source.columns), None)

    def read(column: str) -> ChatColumns:
        if prompt is None:
            return ChatColumns("messages", (column,), images, data.system_column)
        return ChatColumns("prompt_completion", (prompt, column), images, data.system_column)

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
    as_chat = ChatDataConfig(
        source=data.source, id_column=data.id_column, think_tags=data.think_tags, turns="last"
    )
    chosen, rejected = (chat_from(row, number, as_chat, each, folders) for each in layouts)
    if chosen.turns[:-1] != rejected.turns[:-1] or chosen.images != rejected.images:
        raise BadRow("prompts_differ", "the chosen and the rejected answer have different prompts")
    if chosen.turns[-1] == rejected.turns[-1]:
        raise BadRow("no_preference", "the chosen and the rejected answer are the same")
    return Pair(chosen, rejected)


def _learned(turns: Sequence[Turn], which: Literal["all", "last"]) -> list[Turn]:
    """The turns up to the last that is learned. BadRow without a question or answer, or with an
    image in an answer."""
    asked = [t for t in takewhile(lambda t: t.role != "assistant", turns) if t.role == "user"]
    if not any(turn.text.strip() for turn in asked):
        raise BadRow("no_question", "no question comes before the first answer")
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    for i in answers:
        if not turns[i].text.strip():
            raise BadRow("no_answer", f"turn {i}, the assistant's, is empty")
        if IMAGE_MARK in turns[i].text:
            raise BadRow("marks", f"turn {i}, the assistant's, holds {IMAGE_MARK}")
    learned = [i for i in answers if turns[i].trained]
    if not learned:
        raise BadRow("no_answer", "no turn is the assistant's, or none of those is learned")
    kept = list(turns[: learned[-1] + 1])
    if which == "last":
        kept[:-1] = [replace(turn, trained=turn.role != "assistant") for turn in kept[:-1]]
    return kept


def _marked(turns: Sequence[Turn], count: int) -> list[Turn]:
    """The turns with `count` image marks before the first question."""
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    return [
        replace(turn, text=IMAGE_MARK * count + turn.text) if i == first else turn
        for i, turn in enumerate(turns)
    ]


def _content(content: Any, folders: Sequence[Path]) -> tuple[str, list[_Slot]]:
    """A message's text with an image mark for each image, and the images."""
    if isinstance(content, str):
        return content, [None] * content.count(IMAGE_MARK)
    if not isinstance(content, list):
        raise BadRow("malformed", f"a message says {shown(content)}, neither a text nor parts")
    texts: list[str] = []
    slots: list[_Slot] = []
    for part in cast("list[Any]", content):
        kind = cast("Mapping[str, Any]", part).get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part["text"], str):
            texts.append(part["text"])
            slots += [None] * texts[-1].count(IMAGE_MARK)
        elif kind in ("image", "image_url"):
            texts.append(IMAGE_MARK)
            slots.append(_own_image(part, folders))
        elif kind in ("video", "video_url"):
            raise BadRow("video", f"{shown(part)} is a video, and {NO_VIDEOS}")
        else:
            raise BadRow("malformed", f"{shown(part)} is no part of type text, image or image_url")
    return "".join(texts), slots


def _own_image(part: Mapping[str, Any], folders: Sequence[Path]) -> _Slot:
    """The image that a part holds; None where it only marks the place of one."""
    for key in ("image_url", "image", "url", "path", "base64"):
        value = part.get(key)
        if value is None:
            continue
        if key == "image_url" and isinstance(value, Mapping):
            value = cast("Mapping[str, Any]", value).get("url")
        found = list(images_in(f"data:;base64,{value}" if key == "base64" else value, folders))
        if len(found) != 1:
            raise BadRow("malformed", f"{shown(part)} is not one image")
        return found[0]
    return None
