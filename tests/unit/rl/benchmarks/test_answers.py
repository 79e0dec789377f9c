"""Answers on disk outlive a kill, and are never mixed with another file's lines."""

from pathlib import Path

import pytest

from rl.benchmarks.answers import answers_file, answers_writer, read_answers
from rl.console.errors import UserError
from tests.unit.rl.benchmarks.kept_answers import kept, run_of


def test_a_line_that_a_kill_tore_is_taken_off_and_the_next_stands_whole(tmp_path: Path) -> None:
    path = answers_file(run_of(tmp_path, "sums", [kept("a", 1.0), kept("b", None)]), "sums")
    with path.open("a") as file:
        file.write('{"problem": "c", "sam')
    assert [answer.problem for answer in read_answers(path)] == ["a", "b"]
    with answers_writer(path) as writer:
        writer.write(kept("c", 0.0).line())
    assert read_answers(path) == [kept("a", 1.0), kept("b", None), kept("c", 0.0)]


def test_no_file_is_no_answer_and_another_file_is_refused(tmp_path: Path) -> None:
    assert read_answers(tmp_path / "none.jsonl") == []
    (tmp_path / "other.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="holds a line that is no answer of an evaluation"):
        read_answers(tmp_path / "other.jsonl")
