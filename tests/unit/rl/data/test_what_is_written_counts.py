"""What a row says is used, or refused by name: numbers, nested columns, messages, deep images."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from configs.schema.data import ChatDataConfig, DataConfig, PreferenceDataConfig
from rl.console.errors import UserError
from rl.data.chats import ChatSet
from rl.data.images import BadImage, open_image
from rl.data.problems import ProblemSet
from rl.data.records import Chat, Pair, Problem, Turn

ASKED = [{"role": "user", "content": "How many?"}]


def file_of(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return file


def problems(folder: Path, rows: list[dict[str, Any]], **said: Any) -> list[Problem]:
    fields = {"image_column": None, "max_rejected_share": 0.0, **said}
    return read_problems(DataConfig(source=str(file_of(folder, rows)), **fields), folder)


def read_problems(data: DataConfig, folder: Path) -> list[Problem]:
    opened = ProblemSet.open(
        data, measure=lambda _: 1, max_tokens=9, rejected=folder / "rejected.jsonl"
    )
    return opened.first(None)


def chat(folder: Path, row: dict[str, Any], **said: Any) -> Chat:
    data = ChatDataConfig(source=str(file_of(folder, [row])), max_rejected_share=0.0, **said)
    opened = ChatSet.open(
        data, measure=lambda _: 1, max_tokens=9, rejected=folder / "rejected.jsonl", seed=0
    )
    (found,) = opened.chats([0])
    assert isinstance(found, Chat)
    return found


def encoded(image: Image.Image, format: str = "PNG") -> bytes:
    out = BytesIO()
    image.save(out, format)
    return out.getvalue()


# Numbers


@pytest.mark.parametrize(
    ("answers", "gold"),
    [
        ([5.0, 7.0, None], ("5", "5.0")),  # whole numbers that a gap made floats, as pandas writes
        ([2.5, 7.0, None], ("2.5",)),
        ([5, 7, None], ("5",)),
    ],
)
def test_whole_numbers_stay_whole_where_a_gap_makes_their_column_one_of_floats(
    answers: list[float | None], gold: tuple[str, ...], tmp_path: Path
) -> None:
    columns = {"question": ["a?", "b?", "c?"], "answer": answers}
    datasets.Dataset.from_dict(columns).to_parquet(str(tmp_path / "rows.parquet"))
    data = DataConfig(
        source=str(tmp_path / "rows.parquet"), image_column=None, max_rejected_share=0.9
    )
    assert read_problems(data, tmp_path)[0].gold == gold


def test_whole_numbers_of_a_csv_column_with_a_gap_are_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,n\na?,5,1\nb?,7,\nc?,,2\n", "utf-8")
    data = DataConfig(source=str(tmp_path / "rows.csv"), image_column=None, max_rejected_share=0.9)
    assert read_problems(data, tmp_path)[0].gold == ("5",)


def test_an_id_column_with_a_gap_still_names_rows_by_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,id\na?,1,12\nb?,2,\n", "utf-8")
    data = DataConfig(
        source=str(tmp_path / "rows.csv"),
        image_column=None,
        id_column="id",
        max_rejected_share=0.9,
    )
    assert [problem.id for problem in read_problems(data, tmp_path)] == ["12"]


# Problems as messages, nested columns, images in other dress


def test_a_gold_inside_a_column_is_read_by_its_dotted_name(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": ASKED,
            "reward_model": {"ground_truth": "4", "style": "rule"},
            "extra_info": {"index": 7},
        }
    ]
    (found,) = problems(
        tmp_path,
        rows,
        question_column="prompt",
        answer_column="reward_model.ground_truth",
        id_column="extra_info.index",
    )
    assert (found.id, found.question, found.gold) == ("7", "How many?", ("4",))


def test_a_dotted_name_that_leads_nowhere_is_refused_by_name(tmp_path: Path) -> None:
    rows = [{"question": "a?", "reward_model": {"style": "rule"}}]
    with pytest.raises(UserError, match=r"there is no reward_model\.ground_truth in this row"):
        problems(tmp_path, rows, answer_column="reward_model.ground_truth")
    with pytest.raises(UserError, match=r"data\.answer_column is 'gold\.value', which is no col"):
        problems(tmp_path, rows, answer_column="gold.value")


def test_messages_become_the_question_and_what_came_before_it(tmp_path: Path) -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "How many?"}]},
    ]
    (found,) = problems(tmp_path, [{"question": said, "answer": "4"}])
    assert found.question == "How many?"
    assert [(turn.role, turn.text) for turn in found.context] == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi"),
    ]


def test_messages_that_end_with_an_answer_ask_nothing(tmp_path: Path) -> None:
    said = [*ASKED, {"role": "assistant", "content": "4"}]
    with pytest.raises(UserError, match="no_question"):
        problems(tmp_path, [{"question": said, "answer": "4"}])


def test_a_rows_own_system_message_is_used_and_two_are_refused(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "4", "told": "Be brief."}
    (found,) = problems(tmp_path, [row], system_column="told")
    assert found.context == (Turn("system", "Be brief."),)
    twice = row | {"question": [{"role": "system", "content": "Be long."}, *ASKED]}
    with pytest.raises(UserError, match="the row's one system message"):
        problems(tmp_path, [twice], system_column="told")


@pytest.mark.parametrize("dress", ["base64", "data URL", "file URL", "in the message"])
def test_images_come_as_base64_as_urls_and_inside_messages(dress: str, tmp_path: Path) -> None:
    png = encoded(Image.effect_noise((40, 40), 50.0))
    text = base64.b64encode(png).decode()
    (tmp_path / "one.png").write_bytes(png)
    cell: Any = {
        "base64": text,
        "data URL": f"data:image/png;base64,{text}",
        "file URL": f"file://{tmp_path}/one.png",
    }.get(dress)
    if dress == "in the message":
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}
        row = {"question": [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]}
        (found,) = problems(tmp_path, [row | {"answer": "4"}])
        assert found.question == "<image>?"
    else:
        row = {"question": "a?", "answer": "4", "image": cell}
        (found,) = problems(tmp_path, [row], image_column="image")
    (image,) = found.images
    assert (image if isinstance(image, bytes) else Path(image).read_bytes()) == png


# Chats


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_a_chain_beside_the_content_is_learned_in_the_think_tags(key: str, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "4", key: "2 and 2"}
    found = chat(tmp_path, {"messages": [*ASKED, answer]})
    assert found.turns[-1] == Turn("assistant", "<think>\n2 and 2\n</think>\n\n4")
    other = chat(tmp_path, {"messages": [*ASKED, answer]}, think_tags=("[T]", "[/T]"))
    assert other.turns[-1].text == "[T]\n2 and 2\n[/T]\n\n4"


@pytest.mark.parametrize(
    "flag", [{"loss": False}, {"trainable": False}, {"train": False}, {"weight": 0}, {"loss": 0.0}]
)
def test_a_turn_that_is_marked_as_context_is_not_learned(
    flag: dict[str, Any], tmp_path: Path
) -> None:
    first = {"role": "assistant", "content": "3", **flag}
    said = [*ASKED, first, {"role": "user", "content": "Sure?"}]
    found = chat(tmp_path, {"messages": [*said, {"role": "assistant", "content": "4"}]})
    assert [turn.trained for turn in found.turns if turn.role == "assistant"] == [False, True]


@pytest.mark.parametrize(
    ("key", "value"),
    [("tool_calls", [{"name": "f"}]), ("function_call", {"name": "f"}), ("mood", "glad")],
)
def test_a_key_of_a_message_that_would_be_dropped_is_refused_by_name(
    key: str, value: Any, tmp_path: Path
) -> None:
    answer = {"role": "assistant", "content": "4", key: value}
    with pytest.raises(UserError, match=f"has messages with {key}, which are not read"):
        chat(tmp_path, {"messages": [*ASKED, answer]})


def test_a_weight_that_is_neither_0_nor_1_is_refused(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "4", "weight": 0.5}
    with pytest.raises(UserError, match=r"0\.5 is no weight of a turn"):
        chat(tmp_path, {"messages": [*ASKED, answer]})


@pytest.mark.parametrize("column", ["history", "tools", "functions", "system"])
def test_a_column_that_would_be_dropped_is_refused_unless_it_is_to_be_ignored(
    column: str, tmp_path: Path
) -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "4"}], column: "something"}
    with pytest.raises(UserError, match=f"{column} would be dropped"):
        chat(tmp_path, row)
    assert len(chat(tmp_path, row, ignore_columns=[column]).turns) == 2


def test_a_rows_system_message_begins_its_chat(tmp_path: Path) -> None:
    row = {"prompt": "How many?", "completion": "4", "system": "Be brief."}
    found = chat(tmp_path, row, system_column="system")
    assert [turn.role for turn in found.turns] == ["system", "user", "assistant"]
    without = chat(tmp_path, row | {"system": ""}, system_column="system")
    assert [turn.role for turn in without.turns] == ["user", "assistant"]


def pair(folder: Path, row: dict[str, Any], **said: Any) -> Pair:
    data = PreferenceDataConfig(source=str(file_of(folder, [row])), max_rejected_share=0.0, **said)
    opened = ChatSet.open(
        data, measure=lambda _: 1, max_tokens=9, rejected=folder / "rejected.jsonl", seed=0
    )
    (found,) = opened.chats([0])
    assert isinstance(found, Pair)
    return found


def test_pairs_read_a_system_column_and_chains_as_chats_do_and_refuse_the_same(
    tmp_path: Path,
) -> None:
    chosen = [{"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}]
    row = {"prompt": "How many?", "chosen": chosen, "rejected": "5", "system": "Be brief."}
    with pytest.raises(UserError, match="system would be dropped"):
        pair(tmp_path, row)
    found = pair(tmp_path, row, system_column="system", think_tags=("[T]", "[/T]"))
    assert found.chosen.turns[0] == found.rejected.turns[0] == Turn("system", "Be brief.")
    assert found.chosen.turns[-1].text == "[T]\n2 and 2\n[/T]\n\n4"


# Images of more than 8 bits


def grey(values: Any, dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (grey([0, 257, 32896, 65535], np.uint16), "PNG", [0, 1, 128, 255]),
        (grey([0, 257, 32896, 65535], np.uint16), "TIFF", [0, 1, 128, 255]),
        (grey([0, 257, 32896, 65535], np.int32), "TIFF", [0, 1, 128, 255]),
        (grey([0.0, 0.2, 0.5, 1.0], np.float32), "TIFF", [0, 51, 128, 255]),
    ],
)
def test_deep_images_are_scaled_to_8_bits(
    image: Image.Image, format: str, expected: list[int]
) -> None:
    opened = np.asarray(open_image(encoded(image, format)))
    assert opened.shape == (1, 4, 3)
    assert np.abs(opened[0, :, 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "image", [grey([0, 70_000], np.int32), grey([-1, 5], np.int32), grey([0.0, 200.0], np.float32)]
)
def test_images_whose_white_is_not_known_are_refused(image: Image.Image) -> None:
    with pytest.raises(BadImage, match="can be scaled to 8 bits"):
        open_image(encoded(image, "TIFF"))
