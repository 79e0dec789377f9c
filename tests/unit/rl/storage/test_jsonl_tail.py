"""A follower tells each line once, also when the run goes back to a checkpoint."""

import json
from pathlib import Path
from typing import Any

from rl.storage.jsonl import JsonlWriter, filter_lines
from rl.storage.jsonl_tail import JsonlTail


def line(step: int, time: float) -> dict[str, Any]:
    return {"step": step, "time": time}


def steps(follower: JsonlTail) -> list[int]:
    return [line["step"] for line in follower.new()]


def test_lines_are_told_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = JsonlTail(path)
    assert steps(follower) == []
    out = JsonlWriter(path)
    out.write(line(0, 1.0), line(1, 2.0))
    assert steps(follower) == [0, 1]
    half = json.dumps(line(2, 3.0))
    with path.open("a") as file:
        file.write(half[:5])
        file.flush()
        assert steps(follower) == []
        file.write(half[5:] + "\n")
    assert steps(follower) == [2]


def test_what_was_there_before_is_not_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    out = JsonlWriter(path)
    out.write(line(0, 1.0))
    follower = JsonlTail(path)
    out.write(line(1, 2.0))
    assert steps(follower) == [1]


def test_a_file_cut_by_a_restart_tells_only_what_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    out = JsonlWriter(path)
    out.write(line(0, 1.0), line(1, 2.0), line(2, 3.0))
    follower = JsonlTail(path)
    out.close()
    filter_lines(path, lambda old: old["step"] < 1)
    assert steps(follower) == []
    JsonlWriter(path).write(line(1, 4.0))
    assert steps(follower) == [1]
