"""Rows of every format become chats, and rows that cannot are told apart, by hand."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from configs.schema.data import ChatDataConfig, ChatFormat
from rl.data.chat_formats import ChatColumns
from rl.data.chat_rows import chat_from
from rl.data.records import Chat, Turn
from rl.data.row_values import BadRow
from tests.unit.step_samples import png

RED, BLUE = png(8, 6, (200, 0, 0)), png(8, 6, (0, 0, 200))
SAID: dict[ChatFormat, tuple[str, ...]] = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "verl": ("prompt", "response", "extra_info", "reward_model"),
}


def chat(format: ChatFormat, row: Mapping[str, Any], folder: Path = Path("."), **data: Any) -> Chat:
    images = next((column for column in ("images", "image") if column in row), None)
    config = ChatDataConfig(source="rows.jsonl", **data)
    layout = ChatColumns(format, SAID[format], images)
    return chat_from(row, 7, config, layout, [folder.resolve()])


def fault(format: ChatFormat, row: Mapping[str, Any], folder: Path = Path(".")) -> str:
    with pytest.raises(BadRow) as caught:
        chat(format, row, folder)
    return caught.value.fault


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


TEXT = {"type": "text", "text": "Which?"}


def test_messages_are_texts_or_parts_and_images_keep_their_places() -> None:
    found = chat(
        "messages",
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                user([{"type": "image_url", "image_url": {"url": url(RED)}}, TEXT]),
                assistant("The left."),
                user([TEXT, {"type": "image", "image": {"bytes": BLUE, "path": None}}]),
                assistant([{"type": "text", "text": "The right."}]),
            ]
        },
    )
    assert found == Chat(
        "7",
        (
            Turn("system", "Be kind."),
            Turn("user", "<image>Which?"),
            Turn("assistant", "The left."),
            Turn("user", "Which?<image>"),
            Turn("assistant", "The right."),
        ),
        (RED, BLUE),
    )


def test_parts_that_bring_no_image_take_the_column_s_in_order() -> None:
    own = {"type": "image", "base64": base64.b64encode(RED).decode(), "image": None}
    said = [user([{"type": "image"}, own, TEXT]), assistant("A"), user("<image>?"), assistant("B")]
    found = chat("messages", {"messages": said, "images": [BLUE, {"bytes": RED}]})
    assert found.turns[0].text == "<image><image>Which?"
    assert found.images == (BLUE, RED, RED)


def test_conversations_have_values_with_marks_and_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    said = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "A slope."},
    ]
    one = chat("conversations", {"conversations": said, "image": "a.png"}, tmp_path)
    assert [turn.role for turn in one.turns] == ["system", "user", "assistant"]
    assert one.turns[1].text == "<image>\nWhat is this?"
    assert one.images == (str((tmp_path / "a.png").resolve()),)
    said[1]["value"] = "<image> or <image>?"
    two = chat("conversations", {"conversations": said, "image": ["a.png", "a.png"]}, tmp_path)
    assert len(two.images) == 2


def test_images_that_no_turn_marks_come_first_in_the_first_question() -> None:
    said = [{"role": "system", "content": "x"}, user("Which?"), assistant("A"), user("And?")]
    found = chat("messages", {"messages": [*said, assistant("B")], "images": [RED, BLUE]})
    assert [turn.text for turn in found.turns] == ["x", "<image><image>Which?", "A", "And?", "B"]
    assert found.images == (RED, BLUE)


@pytest.mark.parametrize("completion", ["A", [assistant("A")]])
@pytest.mark.parametrize("prompt", ["Q", [user("Q")]])
def test_prompt_and_completion_are_texts_or_messages(prompt: Any, completion: Any) -> None:
    row = {"prompt": prompt, "completion": completion, "images": [RED]}
    assert chat("prompt_completion", row) == Chat(
        "7", (Turn("user", "<image>Q"), Turn("assistant", "A")), (RED,)
    )


def test_answers_in_a_prompt_are_context_and_those_of_the_completion_are_learned() -> None:
    prompt = [user("a"), assistant("A"), user("b")]
    completion = [assistant("B"), user("c"), assistant("C")]
    found = chat("prompt_completion", {"prompt": prompt, "completion": completion})
    answers = [(turn.text, turn.trained) for turn in found.turns if turn.role == "assistant"]
    assert answers == [("A", False), ("B", True), ("C", True)]


@pytest.mark.parametrize(
    ("row", "target"),
    [
        ({"response": "worked", "extra_info": {"answer": "no"}}, "worked"),
        (
            {"extra_info": {"answer": "1+1=2 #### 2"}, "reward_model": {"ground_truth": "2"}},
            "1+1=2 #### 2",
        ),
        ({"extra_info": {"index": 3}, "reward_model": {"ground_truth": "2"}}, "2"),
        ({"response": None, "reward_model": {"ground_truth": 2}}, "2"),
    ],
)
def test_verl_rows_teach_the_fullest_answer_that_they_have(
    row: dict[str, Any], target: str
) -> None:
    found = chat("verl", row | {"prompt": [user("<image>1+1?")], "images": [{"bytes": RED}]})
    assert found.turns[-1] == Turn("assistant", target)
    assert found.images == (RED,)


def test_a_weight_of_nothing_and_the_choice_of_the_last_make_answers_context() -> None:
    said = [user("a"), assistant("A", weight=0), user("b"), assistant("B", weight=1)]
    weighed = chat("messages", {"messages": said})
    assert [turn.trained for turn in weighed.turns if turn.role == "assistant"] == [False, True]
    said = [user("a"), assistant("A"), user("b"), assistant("B")]
    last = chat("messages", {"messages": said}, turns="last")
    assert [turn.trained for turn in last.turns if turn.role == "assistant"] == [False, True]


def test_what_comes_after_the_last_answer_is_left_out_with_its_images() -> None:
    said = [user("<image>a"), assistant("A"), user("<image>b"), assistant("B", weight=0)]
    found = chat("messages", {"messages": [*said, user("c")], "images": [RED, BLUE]})
    assert [turn.text for turn in found.turns] == ["<image>a", "A"]
    assert found.images == (RED,)


def test_a_row_may_have_a_name_of_its_own() -> None:
    row = {"name": "n1", "messages": [user("a"), assistant("A")]}
    assert chat("messages", row, id_column="name").id == "n1"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (None, "malformed"),
        ([], "malformed"),
        (["hello"], "malformed"),
        ([user(None), assistant("A")], "malformed"),
        ([user([{"type": "video"}]), assistant("A")], "video"),
        ([user([{"type": "audio"}]), assistant("A")], "malformed"),
        ([user([{"type": "text", "text": None}]), assistant("A")], "malformed"),
        ([user("a"), {"role": "tool", "content": "A"}], "unknown_role"),
        ([user("a"), {"role": None, "content": "A"}], "unknown_role"),
        ([user("a")], "no_answer"),
        ([user("a"), assistant("A", weight=0)], "no_answer"),
        ([user("a"), assistant(" \n")], "no_answer"),
        ([assistant("A")], "no_question"),
        ([user(" "), assistant("A")], "no_question"),
        ([user("<image>a"), assistant("A")], "marks"),
        ([user("a"), assistant("see <image>")], "marks"),
        ([user([{"type": "image"}]), assistant("A")], "marks"),
    ],
)
def test_messages_that_cannot_be_learned_say_why(messages: Any, expected: str) -> None:
    assert fault("messages", {"messages": messages}) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.org/a.png", "missing_image"),
        ("nowhere.png", "missing_image"),
        ("../secret.png", "image_outside_folder"),
        ("file:///etc/hostname", "image_outside_folder"),
        ("data:image/png;base64,!!!", "corrupt_image"),
    ],
)
def test_images_that_are_not_there_or_not_the_data_s_own_say_why(
    source: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(RED)
    (tmp_path / "data").mkdir()
    said = [user([{"type": "image_url", "image_url": {"url": source}}]), assistant("A")]
    assert fault("messages", {"messages": said}, tmp_path / "data") == expected
    said = [user("a"), assistant("A")]
    assert fault("messages", {"messages": said, "image": source}, tmp_path / "data") == expected


def test_more_images_than_marks_are_refused_where_any_is_marked() -> None:
    said = [user("<image>a"), assistant("A")]
    assert fault("messages", {"messages": said, "images": [RED, BLUE]}) == "marks"
    empty = {"prompt": [user("a")], "extra_info": {"answer": " "}, "reward_model": None}
    assert fault("verl", empty) == "no_answer"
