"""Formats of chat data: which columns hold the chats, and the messages of each row.

messages            a list of {role, content}; content is a text, or parts of type text, image or
                    image_url. `weight: 0` marks an answer that is context only, as `loss`,
                    `trainable` or `train` do when false; `reasoning_content` (`reasoning`,
                    `thinking`) beside the content is its chain of thought.
conversations       a list of {from, value}; `<image>` in a value marks an image's place.
prompt_completion   two columns, each a text or a list of messages; only the completion is learned.
verl                `prompt` as above. The answer is the first that a row has of `response`,
                    `extra_info.answer` (a worked answer, as in verl's SFT examples), and
                    `reward_model.ground_truth` (the result alone). verl's multi-turn files have
                    `messages`, and are read as those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from configs.schema.data import ChatDataConfig, ChatFormat, TurnsConfig
from rl.console.errors import UserError
from rl.data.row_values import BadRow, check_columns, columns_of, shown
from rl.tables.sources import Source

_VERL_TARGETS = ("response", "extra_info", "reward_model")
IMAGE_COLUMNS = ("images", "image")
"""Columns of images where the recipe names none."""
_TRAINED_KEYS = ("weight", "loss", "trainable", "train")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_MESSAGE_KEYS = {"role", "from", "content", "value", "name", *_TRAINED_KEYS, *_REASONING_KEYS}
_NOTHING = (None, "", [], {})
_UNREAD = ("history", "tools", "functions")
"""Columns of known formats that would change what is learned, and are not read."""
_FORMATS: tuple[ChatFormat, ...] = get_args(ChatFormat)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a row, unchecked."""

    role: Any
    content: Any
    trained: bool
    """Whether the loss counts it, if it is an assistant's."""
    reasoning: str = ""
    """Its chain of thought, where that stands beside the content."""


@dataclass(frozen=True, slots=True)
class ChatColumns:
    """Format of a data set's chats, and the columns that hold them."""

    format: ChatFormat
    said: tuple[str, ...]
    """Columns of the messages: question before answer."""
    images: str | None
    """Column of images."""
    system: str | None = None
    """Column of the row's own system message."""

    def columns(self, id_column: str | None) -> list[str]:
        """All columns that have to be read."""
        named = (*self.said, self.images, self.system, id_column)
        return list(dict.fromkeys(column for column in named if column is not None))

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The row's messages, its own system message first. BadRow when it holds none."""
        said = self._messages(row)
        system = None if self.system is None else row[self.system]
        if system in _NOTHING:
            return said
        if any(message.role in ("system", "developer") for message in said):
            raise BadRow("malformed", f"{self.system} and a message both are system messages")
        return [Message("system", system, False), *said]

    def _messages(self, row: Mapping[str, Any]) -> list[Message]:
        first, *rest = self.said
        if self.format in ("messages", "conversations"):
            return listed_messages(row[first], first)
        asked = [replace(m, trained=False) for m in _spoken(row[first], first, "user")]
        if self.format == "prompt_completion":
            return asked + _spoken(row[rest[0]], rest[0], "assistant")
        return [*asked, Message("assistant", _verl_target(row), True)]


def layout_of(source: Source, data: ChatDataConfig) -> ChatColumns:
    """The format and columns that the recipe names, or else the one format that fits the columns.

    Raises:
        ValueError: a column that the recipe names is missing; or the columns fit no format, or
            several.
    """
    known: list[ChatFormat] = list(_FORMATS) if data.format == "auto" else [data.format]
    fitting: list[ChatFormat] = [format for format in known if _said(format, data, source.columns)]
    if data.format != "auto":
        check_columns(source, _needed(data.format, data))
        if not fitting:
            targets = ", ".join(_VERL_TARGETS)
            raise UserError(f"{columns_of(source)}\n  data.format=verl needs one of {targets} too")
    if len(fitting) != 1:
        raise UserError(_unrecognised(source, fitting))
    named = {"image_column": data.image_column, "id_column": data.id_column}
    check_columns(source, named | {"system_column": data.system_column})
    refuse_unread(source, data)
    images = data.image_column or next((c for c in IMAGE_COLUMNS if c in source.columns), None)
    return ChatColumns(
        fitting[0], _said(fitting[0], data, source.columns), images, data.system_column
    )


def refuse_unread(source: Source, data: TurnsConfig) -> None:
    """UserError where `source` has columns that mean something and would be dropped."""
    meant = (*_UNREAD, "system") if data.system_column is None else _UNREAD
    unread = [c for c in meant if c in source.columns and c not in data.ignore_columns]
    if unread:
        raise UserError(
            f"{columns_of(source)}\n  {', '.join(unread)} would be dropped; name the column of a "
            "system message in data.system_column, or what is not wanted in data.ignore_columns"
        )


def _needed(format: ChatFormat, data: ChatDataConfig) -> dict[str, str]:
    """The columns that a format cannot do without, by the recipe's fields that name them."""
    prompt = {"prompt_column": data.prompt_column}
    needed: Mapping[ChatFormat, dict[str, str]] = {
        "messages": {"messages_column": data.messages_column},
        "conversations": {"conversations_column": data.conversations_column},
        "prompt_completion": prompt | {"completion_column": data.completion_column},
        "verl": prompt,
    }
    return needed[format]


def _said(format: ChatFormat, data: ChatDataConfig, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold the chats if they are of `format`; none if they are not."""
    needed = tuple(_needed(format, data).values())
    targets = tuple(column for column in _VERL_TARGETS if column in columns)
    if not set(needed) <= set(columns) or (format == "verl" and not targets):
        return ()
    return needed + targets if format == "verl" else needed


def _unrecognised(source: Source, fitting: Sequence[ChatFormat]) -> str:
    (row,) = source.rows(0, 1) or [{}]
    first = "\n".join(f"    {column}: {shown(value)}" for column, value in row.items())
    what = f"fit {' and '.join(fitting)}" if fitting else "fit no format that is known"
    return (
        f"the columns of data.source {source.name!r} {what}; set data.format to the one that is "
        f"meant, and name its columns. The first row:\n{first}"
    )


def listed_messages(value: Any, column: str) -> list[Message]:
    """The messages in a cell. BadRow where it holds something else, or a key that is not read."""
    if not isinstance(value, list) or not value:
        raise BadRow("malformed", f"{column} is {shown(value)}, not a list of messages")
    messages: list[Message] = []
    for each in cast("list[Any]", value):
        if not isinstance(each, Mapping):
            raise BadRow("malformed", f"{column} holds {shown(each)}, which is no message")
        message = cast("Mapping[str, Any]", each)
        role = message.get("role") or message.get("from")
        content = message.get("content")
        said = message.get("value") if content is None else content
        _check_keys(message, column)
        messages.append(Message(role, said, _is_trained(message), _reasoning(message)))
    return messages


def _check_keys(message: Mapping[str, Any], column: str) -> None:
    """BadRow where a message holds something that would be dropped."""
    odd = sorted(
        key for key, value in message.items() if key not in _MESSAGE_KEYS and value not in _NOTHING
    )
    if odd:
        raise BadRow(
            "malformed",
            f"{column} has messages with {', '.join(odd)}, which are not read; take them out",
        )


def _is_trained(message: Mapping[str, Any]) -> bool:
    flags = [message[key] for key in _TRAINED_KEYS if message.get(key) is not None]
    for flag in flags:
        if flag not in (0, 1):
            raise BadRow("malformed", f"{shown(flag)} is no weight of a turn; give 0 or 1")
    return all(flags)


def _reasoning(message: Mapping[str, Any]) -> str:
    said = [message[key] for key in _REASONING_KEYS if message.get(key) not in _NOTHING]
    if len(said) > 1 or not all(isinstance(each, str) for each in said):
        raise BadRow("malformed", f"{shown(said)} is not one text of reasoning")
    return said[0] if said else ""


def _spoken(value: Any, column: str, role: str) -> list[Message]:
    """A list of messages as it stands; a text is one message of `role`."""
    if isinstance(value, str):
        return [Message(role, value, True)]
    return listed_messages(value, column)


def _verl_target(row: Mapping[str, Any]) -> str:
    extra, reward = row.get("extra_info") or {}, row.get("reward_model") or {}
    for target in (row.get("response"), extra.get("answer"), reward.get("ground_truth")):
        if isinstance(target, str | int | float) and str(target).strip():
            return str(target)
    raise BadRow("no_answer", f"none of {', '.join(_VERL_TARGETS)} holds an answer")
