"""A video is refused by name, wherever a row has it, before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.schema.data import ChatDataConfig, DataConfig, PreferenceDataConfig
from rl.data.chats import ChatSet
from rl.data.problems import ProblemSet, TooManyRejected

PART = {"type": "video", "video": "clip.mp4"}
SAID = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "4"}]
REASON = "videos are not read: leave such rows out, or give their frames as images"


def asked(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "How many?"}]}]


def opened(kind: str, row: dict[str, Any], folder: Path) -> int:
    """How many rows of one can be used."""
    source = folder / "rows.jsonl"
    source.write_text(json.dumps(row) + "\n", "utf-8")
    limits: Any = {"measure": lambda _: 1, "max_tokens": 9, "rejected": folder / "rejected.jsonl"}
    if kind == "problem":
        data = DataConfig(source=str(source), image_column=None)
        return len(ProblemSet.open(data, **limits))
    configs = {"chat": ChatDataConfig, "pair": PreferenceDataConfig}
    return len(ChatSet.open(configs[kind](source=str(source)), **limits, seed=0).index.numbers)


PROBLEM = {"question": "How many?", "answer": "4"}
CHAT = {"messages": SAID}
PAIR = {"prompt": "How many?", "chosen": "4", "rejected": "5"}


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("problem", PROBLEM | {"video": "clip.mp4"}),
        ("problem", PROBLEM | {"videos": ["clip.mp4"]}),
        ("problem", PROBLEM | {"question": asked(PART)}),
        ("chat", CHAT | {"video": "clip.mp4"}),
        ("chat", CHAT | {"videos": [{"path": "clip.mp4"}]}),
        ("chat", {"messages": [*asked(PART), SAID[1]]}),
        ("chat", {"messages": [*asked({"type": "video_url", "video_url": "a.mp4"}), SAID[1]]}),
        ("pair", PAIR | {"videos": ["clip.mp4"]}),
    ],
)
def test_a_row_with_a_video_is_rejected_and_says_what_to_do(
    kind: str, row: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(TooManyRejected, match="video"):
        opened(kind, row, tmp_path)
    (line,) = (tmp_path / "rejected.jsonl").read_text("utf-8").splitlines()
    fault = json.loads(line)
    assert fault["reason"] == "video" and REASON in fault["detail"]


@pytest.mark.parametrize(("kind", "row"), [("problem", PROBLEM), ("chat", CHAT), ("pair", PAIR)])
def test_an_empty_column_of_videos_rejects_nothing(
    kind: str, row: dict[str, Any], tmp_path: Path
) -> None:
    assert opened(kind, row | {"videos": [], "video": None}, tmp_path) == 1
