"""A chat set knows its format, tells bad rows, and is the same wherever it is opened again."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from configs.schema.data import ChatDataConfig
from rl.data.chats import ChatSet
from rl.data.records import Chat
from rl.data.row_checks import TooManyRejected
from tests.unit.step_samples import png

Row = dict[str, Any]
RED = png(8, 6, (200, 0, 0))


def words(chat: Chat) -> int:
    """Stands for a tokenizer: words, and ten for an image."""
    if any("unreadable" in turn.text for turn in chat.turns):
        raise ValueError("the template refuses it")
    return sum(len(turn.text.split()) for turn in chat.turns) + 10 * len(chat.images)


def jsonl(folder: Path, *rows: Row) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def config(source: Path, **data: Any) -> ChatDataConfig:
    given = {"max_rejected_share": 0.9} | data | {"source": str(source)}
    return ChatDataConfig.model_validate(given)


def opened(source: Path, **data: Any) -> ChatSet:
    rejected = source.parent / "run" / "rejected.jsonl"
    return ChatSet.open(
        config(source, **data), measure=words, max_tokens=30, rejected=rejected, seed=5
    )


def asked(question: Any, answer: str = "A") -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_texts_parts_and_images_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
    path = jsonl(
        tmp_path,
        {"messages": [{"role": "system", "content": "x"}, *asked("two words")]},
        {"messages": asked([{"type": "image_url", "image_url": {"url": url}}]), "id": 3},
        {"messages": asked("three words now")},
    )
    chats = opened(path)
    assert len(chats) == 3
    assert chats.lengths.tolist() == [4, 12, 4]
    assert chats.lengths.dtype == np.int32
    assert chats.index.has_image.tolist() == [False, True, False]
    assert [chat.id for chat in chats.chats([2, 0])] == ["2", "0"]
    assert chats.chats([1])[0].images == (RED,)
    assert chats.chats([]) == []


def test_one_image_or_several_may_stand_in_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    said = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "A"}]
    rows = [{"conversations": said, "image": image} for image in ("a.png", ["a.png", "a.png"], [])]
    chats = opened(jsonl(tmp_path, *rows, {"conversations": said}))
    assert [len(chat.images) for chat in chats.chats(range(4))] == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"messages": asked("q", "m")}, "m"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "c"}]}, "c"),
        ({"prompt": "q", "completion": "p"}, "p"),
        ({"prompt": asked("q")[:1], "completion": asked("q", "p")[1:]}, "p"),
        ({"prompt": asked("q")[:1], "reward_model": {"ground_truth": "v"}, "ability": "x"}, "v"),
        ({"prompt": "q", "extra_info": {"answer": "e", "question": "q"}}, "e"),
    ],
)
def test_a_format_is_told_by_its_columns(tmp_path: Path, row: Row, answer: str) -> None:
    (chat,) = opened(jsonl(tmp_path, row)).chats([0])
    assert [turn.text for turn in chat.turns] == ["q", answer]


def test_pil_columns_come_out_as_the_bytes_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    images = datasets.Sequence(datasets.Image())
    table = datasets.Dataset.from_dict(
        {"prompt": ["q"], "completion": ["a"], "images": [[Image.new("RGB", (6, 4), "red")]]}
    )
    table.cast_column("images", images).to_parquet(str(path))
    (image,) = opened(path).chats([0])[0].images
    assert isinstance(image, bytes)
    assert Image.open(BytesIO(image)).getpixel((0, 0)) == (255, 0, 0)


def test_columns_that_fit_no_format_or_two_are_refused_with_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fit no format that is known; set data.format") as caught:
        opened(jsonl(tmp_path, {"question": "why?", "answer": "so"}))
    assert "question: 'why?'\n    answer: 'so'" in str(caught.value)
    both = {"messages": asked("q"), "prompt": "q", "completion": "a"}
    with pytest.raises(ValueError, match=r"fit messages and prompt_completion; set data.format"):
        opened(jsonl(tmp_path, both))
    assert len(opened(jsonl(tmp_path, both), format="prompt_completion")) == 1


def test_a_named_format_without_its_columns_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"message": asked("q"), "prompt": "q", "picture": "a.png"})
    with pytest.raises(ValueError, match=r"messages_column is 'messages'.*mean 'message'\?"):
        opened(path, format="messages")
    with pytest.raises(ValueError, match="verl needs one of response, extra_info, reward_model"):
        opened(path, format="verl")
    with pytest.raises(ValueError, match=r"data.image_column is 'pictures'.*mean 'picture'"):
        opened(path, messages_column="message", format="messages", image_column="pictures")
    assert len(opened(path, messages_column="message")) == 1


def test_unusable_rows_are_written_down_with_their_reason_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [
        (asked("fine"), None),
        (asked("broken"), [RED[:-30]]),
        (asked("bomb"), [png(100, 100)]),
        (asked("unreadable"), None),
        (asked("long " * 40), None),
        (asked("fine too"), [RED]),
        (asked("empty", " "), None),
    ]
    datasets.Dataset.from_list(
        [{"messages": messages, "images": images} for messages, images in rows]
    ).to_parquet(str(path))
    chats = opened(path, max_image_pixels=5_000)
    assert [chat.id for chat in chats.chats(range(len(chats)))] == ["0", "5"]
    lines = (tmp_path / "run" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert [(line["row"], line["reason"]) for line in map(json.loads, lines)] == [
        (1, "corrupt_image"),
        (2, "image_bomb"),
        (3, "unprocessable"),
        (4, "too_long"),
        (6, "no_answer"),
    ]
    assert chats.index.rejected["too_long"] == 1
    with pytest.raises(TooManyRejected, match="5 of 7 rows"):
        opened(path, max_image_pixels=5_000, max_rejected_share=0.7)


def test_paths_start_at_the_image_folder_and_never_leave_it(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(RED)
    (tmp_path / "b.png").write_bytes(RED)
    rows = [{"messages": asked("q"), "image": name} for name in ("a.png", "../b.png")]
    chats = opened(jsonl(tmp_path, *rows), image_folder=pictures)
    assert [chat.images for chat in chats.chats([0])] == [(str((pictures / "a.png").resolve()),)]
    assert chats.index.rejected == {"image_outside_folder": 1}


def test_a_set_opened_again_is_the_same_and_checks_nothing(tmp_path: Path) -> None:
    rows = [{"messages": asked(f"q {i}", "A" if i % 3 else "")} for i in range(10)]
    path = jsonl(tmp_path, *rows)
    chats = opened(path)
    again = ChatSet.reopen(config(path), chats.index, seed=5)
    order = chats.cursor.items(0, len(chats))
    assert sorted(order) == list(range(6))
    assert again.cursor.items(0, len(again)) == order
    assert again.chats(order) == chats.chats(order)
    assert again.lengths.tolist() == chats.lengths.tolist()
    assert again.index.rejected == chats.index.rejected == {"no_answer": 4}
    jsonl(tmp_path, *rows[:8])
    with pytest.raises(ValueError, match="8 rows here, but 10 where it was checked"):
        ChatSet.reopen(config(path), chats.index, seed=5)


def test_the_limit_counts_rows_before_bad_ones_are_left_out(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({"messages": asked(text)} for text in (" ", "b", "c", "d")))
    assert [chat.id for chat in opened(path, limit=3).chats([0, 1])] == ["1", "2"]
