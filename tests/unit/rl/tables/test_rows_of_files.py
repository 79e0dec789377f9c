"""Values of files come back as they were written, whatever stood in the rows before them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl.console.errors import UserError
from rl.tables.sources import Source, open_source


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1V_CACHE", str(tmp_path.with_name(f"{tmp_path.name}_cache")))


def opened(folder: Path, text: str, name: str = "rows.jsonl", split: str = "train") -> Source:
    (folder / name).write_text(text, "utf-8")
    return open_source(str(folder / name), split)


def all_rows(source: Source) -> list[dict[str, Any]]:
    return source.rows(0, len(source))


def test_a_column_that_changes_its_type_far_down_keeps_every_value(tmp_path: Path) -> None:
    answers: list[Any] = [*range(30_000), "x/2", 0.5, True, ["a", 1], {"b": None}, 2**70, None]
    lines = "\n".join(json.dumps({"question": "q", "answer": each}) for each in answers)
    source = opened(tmp_path, lines)
    assert [row["answer"] for row in all_rows(source)] == answers
    assert type(source.rows(3, 4)[0]["answer"]) is int
    assert source.rows(30_002, 30_003)[0]["answer"] is True


def test_whole_numbers_and_texts_of_one_type_stay_what_they_are(tmp_path: Path) -> None:
    rows = [{"n": 2**62 + 1, "t": "007", "f": 1.5}, {"n": None, "t": "2020-01-01", "f": 2.0}]
    source = opened(tmp_path, "\n".join(map(json.dumps, rows)))
    assert all_rows(source) == rows
    assert {str(kind.dtype) for kind in source.table.features.values()} == {
        "int64",
        "string",
        "float64",
    }


def test_types_may_change_inside_lists_and_objects(tmp_path: Path) -> None:
    rows = [
        {"box": [1, 2], "reward_model": {"ground_truth": "3", "style": "rule"}},
        {"box": [0.5, "x"], "reward_model": {"ground_truth": ["3", "three"], "style": "rule"}},
        {"box": [], "reward_model": None},
    ]
    assert all_rows(opened(tmp_path, "\n".join(map(json.dumps, rows)))) == rows


def test_a_key_that_comes_late_is_none_before_and_a_mapping_by_data_stays_small(
    tmp_path: Path,
) -> None:
    rows: list[dict[str, Any]] = [{"by_id": {f"k{n}": n}} for n in range(300)]
    source = opened(tmp_path, "\n".join(map(json.dumps, [*rows, {"by_id": {}, "late": "x"}])))
    read = all_rows(source)
    assert read[7] == {"by_id": {"k7": 7}, "late": None}
    assert read[300] == {"by_id": {}, "late": "x"}


def test_an_array_of_objects_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    rows = [{"a": "é\n1"}, {"a": 2}]
    assert all_rows(opened(tmp_path, json.dumps(rows, indent=1), "rows.json")) == rows
    assert all_rows(opened(tmp_path, '\ufeff{"a": 1}\n\n{"a": 2}', "mark.jsonl")) == [
        {"a": 1},
        {"a": 2},
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1}\n{"a":\n', "line 2 is not JSON"),
        ('{"a": 1}\n5\n', "line 2 is 5, no row"),
        ('[{"a": 1}, "x"]', r"entry 1 of the array \(from 0\) is 'x', no row"),
        ('[{"a": 1},', "is not JSON"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ("", "there are no rows"),
    ],
)
def test_a_file_that_is_broken_is_refused_with_the_place(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        opened(tmp_path, text)


def test_csv_keeps_the_words_and_the_writing_of_numbers(tmp_path: Path) -> None:
    text = 'id,answer,share,note\n1,1.50,0.5,NA\n2,3,1.5,\n-7,"x\ny",0.25,null\n'
    assert all_rows(opened(tmp_path, text, "rows.csv")) == [
        {"id": 1, "answer": "1.50", "share": 0.5, "note": "NA"},
        {"id": 2, "answer": "3", "share": 1.5, "note": None},
        {"id": -7, "answer": "x\ny", "share": 0.25, "note": "null"},
    ]


@pytest.mark.parametrize("number", ["007", "-0", "1e3", "+1", "12345678901234567890", "1_000"])
def test_csv_numbers_that_would_not_read_back_stay_texts(tmp_path: Path, number: str) -> None:
    assert all_rows(opened(tmp_path, f"a\n5\n{number}\n", "rows.csv")) == [
        {"a": "5"},
        {"a": number},
    ]


def test_a_csv_row_of_another_length_or_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2 .*line 3.* has 3 values for 2 columns"):
        opened(tmp_path, "a,b\n1,2\n1,2,3\n", "long.csv")
    with pytest.raises(UserError, match="has a name twice"):
        opened(tmp_path, "a,a\n1,2\n", "twice.csv")


def test_files_of_one_split_agree_on_a_type_and_splits_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "train-0.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "train-1.jsonl").write_text('{"a": "x"}\n')
    (tmp_path / "test.jsonl").write_text('{"b": 1}\n')
    folder = str(tmp_path)
    assert all_rows(open_source(folder, "train")) == [{"a": 1}, {"a": 2}, {"a": "x"}]
    assert all_rows(open_source(folder, "train[1:]")) == [{"a": 2}, {"a": "x"}]
    assert all_rows(open_source(folder, "test")) == [{"b": 1}]
    with pytest.raises(UserError, match=r"no split 'val'; set .* to one of train, test$"):
        open_source(folder, "val")


def test_parquet_files_of_one_split_may_differ_in_a_column_s_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "n": pa.nulls(2)}), tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"a": ["x"], "n": [3]}), tmp_path / "train-1.parquet")
    assert all_rows(open_source(str(tmp_path), "train")) == [
        {"a": "1", "n": None},
        {"a": "2", "n": None},
        {"a": "x", "n": 3},
    ]


def test_a_file_that_was_changed_is_read_anew_and_one_that_was_not_is_stored_once(
    tmp_path: Path,
) -> None:
    assert all_rows(opened(tmp_path, '{"a": 1}')) == [{"a": 1}]
    assert all_rows(opened(tmp_path, '{"a": 1}\n{"a": "x"}')) == [{"a": 1}, {"a": "x"}]
    tables = tmp_path.with_name(f"{tmp_path.name}_cache") / "tables"
    stored = sorted(tables.iterdir())
    open_source(str(tmp_path / "rows.jsonl"), "train")
    assert sorted(tables.iterdir()) == stored
    assert len(stored) == 2
