"""A journal keeps finished rows, whichever finishes first, and a new process takes them up."""

from pathlib import Path

from rl.storage.journal import Journal


def test_rows_are_read_back_by_shard_in_whatever_order_they_came(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 2)
    for index in (3, 0, 4, 1):
        journal.write(index, {"text": f"row {index}"})
    journal.close()
    assert journal.done == {0, 1, 3, 4}
    assert {i: line["text"] for i, line in journal.read(0).items()} == {0: "row 0", 1: "row 1"}
    assert journal.read(1)[3]["text"] == "row 3" and journal.read(7) == {}


def test_another_process_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    first = Journal(tmp_path, 2)
    first.write(0, {"text": "a"})
    first.write(2, {"text": "c"})
    with (tmp_path / "00000.jsonl").open("a") as file:
        file.write('{"index": 1, "te')  # a line that the kill tore
    second = Journal(tmp_path, 2)
    assert second.done == {0, 2}
    second.write(1, {"text": "b"})
    second.close()
    assert {index: line["text"] for index, line in Journal(tmp_path, 2).lines()} == {
        0: "a",
        1: "b",
        2: "c",
    }
