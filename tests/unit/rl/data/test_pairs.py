"""Preference pairs from rows, in TRL's forms; what is no preference is set aside."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from configs.schema.data import PreferenceDataConfig
from rl.console.errors import UserError
from rl.data.chats import ChatSet
from rl.data.records import Pair, Turn
from rl.storage.jsonl import read_lines


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def opened(path: Path, **data: Any) -> ChatSet:
    config = PreferenceDataConfig(source=str(path), max_rejected_share=0.9, **data)
    return ChatSet.open(
        config,
        measure=lambda pair: 7,
        max_tokens=100,
        rejected=path.with_name("rejected.jsonl"),
        seed=0,
    )


def pairs(chats: ChatSet) -> list[Pair]:
    found = chats.chats(range(len(chats)))
    assert all(isinstance(each, Pair) for each in found)
    return [each for each in found if isinstance(each, Pair)]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_texts_become_a_prompt_with_two_answers(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"})
    (pair,) = pairs(opened(path))
    assert pair.chosen.turns == (Turn("user", "2 + 2?", True), Turn("assistant", "4"))
    assert pair.rejected.turns[-1] == Turn("assistant", "5")
    assert pair.id == "0"


def test_messages_with_the_prompt_apart_or_within_are_read_alike(tmp_path: Path) -> None:
    asked = [user("Hi"), says("Hello"), user("2 + 2?")]
    apart = {"prompt": asked, "chosen": [says("4")], "rejected": [says("5")]}
    within = {"chosen": [*asked, says("4")], "rejected": [*asked, says("5")]}
    (one,) = pairs(opened(file_of(tmp_path, apart)))
    (other,) = pairs(opened(file_of(tmp_path, within), prompt_column=None))
    for pair in (one, other):
        assert [turn.text for turn in pair.chosen.turns] == ["Hi", "Hello", "2 + 2?", "4"]
        # An earlier answer is context: the preference is about the last.
        learned = [turn.trained for turn in pair.chosen.turns if turn.role == "assistant"]
        assert learned == [False, True]


def test_both_chats_show_the_images(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    row = {"prompt": "What?", "chosen": "A", "rejected": "B", "image": {"bytes": file.getvalue()}}
    path = tmp_path / "pairs.parquet"
    datasets.Dataset.from_list([row]).to_parquet(path)
    (pair,) = pairs(opened(path))
    assert pair.chosen.images == pair.rejected.images == (file.getvalue(),)
    assert pair.images == pair.chosen.images * 2
    assert pair.chosen.turns[0].text == "<image>What?"


def test_equal_answers_and_different_prompts_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"chosen": [user("a"), says("4")], "rejected": [user("a"), says("4")]},
        {"chosen": [user("a"), says("4")], "rejected": [user("b"), says("5")]},
        {"chosen": [user("a"), says("4")], "rejected": [user("a"), says("")]},
        {"chosen": [user("a"), says("4")], "rejected": [user("a"), says("5")]},
    )
    chats = opened(path, prompt_column=None)
    assert len(chats) == 1
    reasons = [line["reason"] for line in read_lines(tmp_path / "rejected.jsonl")]
    assert reasons == ["no_preference", "prompts_differ", "no_answer"]


def test_a_missing_column_is_refused_by_its_key(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"prompt": "2 + 2?", "chosen": "4", "reject": "5"})
    with pytest.raises(UserError, match=r"data\.rejected_column is 'rejected'.*mean 'reject'"):
        opened(path)
