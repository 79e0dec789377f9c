"""Small files in exactly the columns of the published benchmarks."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value

from tests.unit.step_samples import png

TEXT, INT, FLOAT = Value("string"), Value("int64"), Value("float64")
MATH_500 = {
    "problem": TEXT,
    "solution": TEXT,
    "answer": TEXT,
    "subject": TEXT,
    "level": INT,
    "unique_id": TEXT,
}
AIME_2024 = {
    "id": INT,
    "problem": TEXT,
    "solution": TEXT,
    "answer": TEXT,
    "url": TEXT,
    "year": TEXT,
}
MMMU = {
    "id": TEXT,
    "question": TEXT,
    "options": TEXT,
    "explanation": TEXT,
    **{f"image_{number}": Image() for number in range(1, 8)},
    "img_type": TEXT,
    "answer": TEXT,
    "topic_difficulty": TEXT,
    "question_type": TEXT,
    "subfield": TEXT,
}
MATHVISTA = {
    "pid": TEXT,
    "question": TEXT,
    "image": TEXT,
    "decoded_image": Image(),
    "choices": List(TEXT),
    "unit": TEXT,
    "precision": FLOAT,
    "answer": TEXT,
    "question_type": TEXT,
    "answer_type": TEXT,
    "metadata": {
        "category": TEXT,
        "context": TEXT,
        "grade": TEXT,
        "img_height": INT,
        "img_width": INT,
        "language": TEXT,
        "skills": List(TEXT),
        "source": TEXT,
        "split": TEXT,
        "task": TEXT,
    },
    "query": TEXT,
}
GPQA = (
    *("Pre-Revision Question", "Question", "Correct Answer"),
    *(f"Incorrect Answer {number}" for number in (1, 2, 3)),
    *("Explanation", "Subdomain", "Record ID", "High-level domain"),
)


def parquet(path: Path, features: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """A file of `rows`; columns that a row does not name are null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = [{name: row.get(name) for name in features} for row in rows]
    Dataset.from_list(whole, features=Features(features)).to_parquet(path)
    return path


def gpqa_file(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """A CSV as the hub has it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, GPQA)
        writer.writeheader()
        writer.writerows(rows)
    return path


def gpqa_row(number: int) -> dict[str, str]:
    return {
        "Record ID": f"rec{number}",
        "Question": f"Which of these is {number}?",
        "Correct Answer": f"right {number}\n",
        "Incorrect Answer 1": "one",
        "Incorrect Answer 2": "two",
        "Incorrect Answer 3": "three",
        "High-level domain": "Physics" if number % 2 else "Biology",
    }


def mathvista_row(pid: str, **fields: Any) -> dict[str, Any]:
    return {
        "pid": pid,
        "question": "How long is it?",
        "decoded_image": {"bytes": png(8, 8), "path": None},
        "question_type": "free_form",
        "metadata": {"task": "geometry problem solving", "skills": ["geometry reasoning"]},
        **fields,
    }


def picture(number: int) -> dict[str, Any]:
    """A cell with an image that `number` decides."""
    return {"bytes": png(8, 8, (number, number, number)), "path": None}
