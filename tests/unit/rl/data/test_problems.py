"""Problems come from any source, bad rows are told, and steps ask everything once."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from configs.schema.data import DataConfig
from rl.console.errors import UserError
from rl.data.problems import ProblemSet, TooManyRejected
from rl.data.records import Problem

Row = dict[str, Any]


def encoded(colour: str = "red", size: tuple[int, int] = (6, 4)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def jsonl(folder: Path, *rows: Row) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def opened(
    source: Path,
    *,
    measure: Callable[[Problem], int] = lambda problem: 1,
    **data: Any,
) -> ProblemSet:
    config = {"max_rejected_share": 0.9} | data | {"source": str(source)}
    return ProblemSet.open(
        DataConfig.model_validate(config),
        measure=measure,
        max_tokens=10,
        rejected=source.parent / "run" / "rejected.jsonl",
    )


def rejected(source: Path) -> list[Row]:
    lines = (source.parent / "run" / "rejected.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text_rows(count: int) -> list[Row]:
    return [{"question": f"{n} + 1?", "answer": n + 1} for n in range(count)]


def test_pil_columns_of_every_kind_of_file_come_out_as_the_bytes_they_hold(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(
        {"question": ["what?"], "answer": ["red"], "image": [Image.new("RGB", (6, 4), "red")]}
    )
    table.to_parquet(str(tmp_path / "rows.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict(other=table, train=table).save_to_disk(str(tmp_path / "splits"))
    arrow = next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / "rows.arrow")
    again = datasets.Dataset.from_file(str(arrow))
    again.save_to_disk(str(tmp_path / "saved_again"))

    for name in ("rows.parquet", "rows.arrow", "saved_again", "splits"):
        (problem,) = opened(tmp_path / name).first(None)
        assert (problem.id, problem.question, problem.gold) == ("0", "what?", ("red",)), name
        (image,) = problem.images
        assert isinstance(image, bytes)
        assert Image.open(BytesIO(image)).getpixel((0, 0)) == (255, 0, 0)


def test_bytes_several_images_and_none_at_all_may_stand_in_one_column(tmp_path: Path) -> None:
    red, blue = encoded("red"), encoded("blue")
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_dict(
        {
            "question": ["<image> or <image>?", "why?", "and?"],
            "answer": ["1", "2", "3"],
            "image": [[red, blue], [], None],
        }
    ).to_parquet(str(path))
    assert [problem.images for problem in opened(path).first(None)] == [(red, blue), (), ()]


def test_paths_are_relative_to_the_data_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    picture = tmp_path / "pictures" / "a.png"
    picture.write_bytes(encoded())
    path = jsonl(
        tmp_path,
        {"question": "q", "answer": "a", "image": "pictures/a.png"},
        {"question": "q", "answer": "a", "image": "pictures/../pictures/a.png"},
    )
    assert [p.images for p in opened(path).first(None)] == [(str(picture.resolve()),)] * 2


def test_an_image_folder_is_read_by_its_metadata_split_by_split(tmp_path: Path) -> None:
    for split, colour in (("train", "red"), ("test", "blue")):
        folder = tmp_path / "folder" / split
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded(colour))
        (folder / "metadata.csv").write_text(f"file_name,question,answer\na.png,what?,{colour}\n")
    (problem,) = opened(tmp_path / "folder", split="test").first(None)
    assert problem.gold == ("blue",)
    assert problem.images == (str((tmp_path / "folder" / "test" / "a.png").resolve()),)


@pytest.mark.parametrize(
    "escape", ["../secret.png", "{outside}/secret.png", "link.png", "in/x.png"]
)
def test_an_image_path_never_leaves_the_folder_of_its_data(tmp_path: Path, escape: str) -> None:
    (tmp_path / "secret.png").write_bytes(encoded())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "in").symlink_to(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded())
    image = escape.format(outside=tmp_path)
    path = jsonl(folder, {"question": "q", "answer": "a", "image": image})
    with pytest.raises(TooManyRejected, match="image_outside_folder"):
        opened(path)


def test_unusable_rows_are_written_down_with_their_reason_and_left_out(tmp_path: Path) -> None:
    whole = encoded(size=(40, 40))
    rows = [
        {"question": "q", "answer": "a", "image": whole},
        {"question": " ", "answer": "a", "image": whole},
        {"question": "q", "answer": " ", "image": whole},
        {"question": "q", "answer": None, "image": whole},
        {"question": "q", "answer": "a", "image": whole[:-30]},
        {"question": "q", "answer": "a", "image": b"no image"},
        {"question": "q", "answer": "a", "image": encoded(size=(100, 100))},
        {"question": "<image> and <image>", "answer": "a", "image": whole},
        {"question": "too long", "answer": "a", "image": whole},
        {"question": "cannot be cut", "answer": "a", "image": whole},
        {"question": "q", "answer": "a", "image": whole},
    ]
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(path))

    def measure(problem: Problem) -> int:
        if problem.question == "cannot be cut":
            raise ValueError("aspect ratio 300")
        return 11 if problem.question == "too long" else 10

    problems = opened(path, measure=measure, max_image_pixels=5_000)
    assert [problem.id for problem in problems.first(None)] == ["0", "10"]
    assert [(line["row"], line["reason"]) for line in rejected(path)] == [
        (1, "no_question"),
        (2, "no_answer"),
        (3, "no_answer"),
        (4, "corrupt_image"),
        (5, "corrupt_image"),
        (6, "image_bomb"),
        (7, "missing_image"),
        (8, "too_long"),
        (9, "unprocessable"),
    ]
    assert problems.rejected["no_answer"] == 2
    assert problems.rejected.total() == 9
    assert "100 x 100 pixels are more than 5,000" in rejected(path)[5]["detail"]
    assert "11 tokens are more than 10" in rejected(path)[7]["detail"]


def test_ids_are_unique_and_there(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        *({"name": name, "question": "q", "answer": "a"} for name in ("x", "y", "x", None)),
    )
    problems = opened(path, id_column="name", image_column=None)
    assert [problem.id for problem in problems.first(None)] == ["x", "y"]
    assert [line["reason"] for line in rejected(path)] == ["duplicate_id", "no_id"]
    assert "row 0" in rejected(path)[0]["detail"]


def test_answers_are_texts_numbers_or_lists_of_forms(tmp_path: Path) -> None:
    table = tmp_path / "rows.parquet"
    datasets.Dataset.from_dict({"question": ["q"], "answer": [["1/2", " 0.5 ", ""]]}).to_parquet(
        str(table)
    )
    assert opened(table, image_column=None).first(1)[0].gold == ("1/2", "0.5")
    numbers = jsonl(tmp_path, {"question": "q", "answer": 7}, {"question": "q", "answer": 0})
    assert [p.gold for p in opened(numbers, image_column=None).first(2)] == [("7",), ("0",)]


def test_columns_for_rewards_are_handed_on_as_they_are(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "q", "answer": "A", "options": ["one", "two"], "more": 1})
    (problem,) = opened(path, image_column=None, reward_columns=["options"]).first(1)
    assert problem.fields == {"options": ["one", "two"]}


def test_too_many_bad_rows_stop_the_run_with_the_worst_reasons_and_examples(tmp_path: Path) -> None:
    rows = text_rows(20)
    rows[3]["answer"] = rows[5]["answer"] = None
    rows[7]["question"] = ""
    path = jsonl(tmp_path, *rows)
    with pytest.raises(TooManyRejected) as caught:
        opened(path, image_column=None, max_rejected_share=0.14)
    told = str(caught.value)
    assert "3 of 20 rows" in told
    assert "15.0%; data.max_rejected_share allows 14.0%" in told
    assert told.index("2 x no_answer") < told.index("1 x no_question")
    assert "row 3, id 3: answer is None" in told
    assert len(opened(path, image_column=None, max_rejected_share=0.15)) == 17


def test_a_file_of_yesterdays_rejected_rows_is_replaced(tmp_path: Path) -> None:
    opened(jsonl(tmp_path, *text_rows(2), {"question": "", "answer": ""}), image_column=None)
    path = jsonl(tmp_path, *text_rows(3))
    opened(path, image_column=None)
    assert rejected(path) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.parquet", "does not exist: there is no file or folder"),
        ("no/such/folder", "does not exist: there is no file or folder"),
        ("rows.txt", "ends in '.txt'; convert it to one of .parquet, .jsonl"),
        ("broken.jsonl", "cannot be read"),
        ("saved", "has no split 'train'; set data.split to one of other"),
    ],
)
def test_a_source_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / "rows.txt").write_text("hello")
    (tmp_path / "broken.jsonl").write_text('{"question": ')
    table = datasets.Dataset.from_list(text_rows(2))
    datasets.DatasetDict(other=table).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=told):
        opened(tmp_path / name)


def test_missing_columns_are_told_all_at_once_with_the_nearest(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"problem": "q", "answers": "a"})
    with pytest.raises(ValueError, match="has the columns problem, answers") as caught:
        opened(path)
    told = str(caught.value)
    assert "data.question_column is 'question', which is no column" in told
    assert "data.answer_column is 'answer', which is no column; did you mean 'answers'?" in told
    assert "data without images needs data.image_column=null" in told


def test_the_limit_counts_rows_before_bad_ones_are_left_out(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "", "answer": ""}, *text_rows(5))
    problems = opened(path, image_column=None, limit=3)
    assert [problem.id for problem in problems.first(None)] == ["1", "2"]
    assert len(problems.first(1)) == 1


def test_only_rows_are_used_whose_ids_a_file_lists(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *[row | {"name": f"row {n}"} for n, row in enumerate(text_rows(6))])
    ids = tmp_path / "ids.txt"
    ids.write_text("4\n1\n\n", "utf-8")
    problems = opened(path, image_column=None, ids=ids)
    assert [problem.id for problem in problems.first(None)] == ["1", "4"]
    ids.write_text("row 5\nrow 0\nrow 2\n", "utf-8")
    named = {"image_column": None, "id_column": "name", "ids": ids}
    assert [p.id for p in opened(path, **named).first(None)] == ["row 0", "row 2", "row 5"]
    assert [p.id for p in opened(path, **named, limit=2).first(None)] == ["row 0", "row 2"]


@pytest.mark.parametrize(
    ("listed", "told"),
    [("1\n9\n", "names 2 rows, and row numbers .* have 1 of them"), ("\n", "names no row")],
)
def test_ids_that_name_no_row_are_refused(listed: str, told: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path, *text_rows(3))
    ids = tmp_path / "ids.txt"
    ids.write_text(listed, "utf-8")
    with pytest.raises(UserError, match=told):
        opened(path, image_column=None, ids=ids)
    with pytest.raises(UserError, match="is no file"):
        opened(path, image_column=None, ids=tmp_path / "none.txt")
