"""The built-in handwriting sums: right, repeatable, and fair to the held-out scans."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from rl.digits.problems import MOST_DIGITS, Drawing, dataset_path, rows

FEW = Drawing(num_train=60, num_test=40)
STILL = Drawing(
    num_train=40, num_test=4, scale=0, shift=0, turn=0, slant=0, stroke=0, noise=0, least_ink=1.0
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R1V_CACHE", str(tmp_path))
    return tmp_path


def pixels(row_image: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(row_image["bytes"])))


def test_answers_are_the_sums_of_two_to_four_digits() -> None:
    made = rows("digits", "train", FEW)
    assert {len(digits) for digits in made["digits"]} == {2, 3, 4}
    assert made["answer"] == [str(sum(digits)) for digits in made["digits"]]
    assert len(set(made["id"])) == FEW.num_train


def test_the_same_drawing_gives_the_same_rows_and_another_seed_others() -> None:
    assert rows("digits", "test", FEW) == rows("digits", "test", FEW)
    other = Drawing(seed=2, num_train=60, num_test=40)
    assert rows("digits", "test", FEW)["digits"] != rows("digits", "test", other)["digits"]


def test_quadrants_hold_one_digit_each_in_reading_order_and_the_rest_stay_blank() -> None:
    made = rows("digits", "train", FEW)
    for digits, image in zip(made["digits"], made["image"], strict=True):
        paper = pixels(image).astype(float)
        assert paper.shape == (56, 56)
        quadrants = [paper[top : top + 28, left : left + 28] for top in (0, 28) for left in (0, 28)]
        inked = [bool((quadrant < 170).mean() > 0.02) for quadrant in quadrants]
        assert inked == [place < len(digits) for place in range(MOST_DIGITS)]


def test_the_same_scan_drawn_without_chance_is_the_same_picture() -> None:
    """1,600 training scans; without augmentation two splits share no drawn digit."""

    def cells(split: str) -> set[bytes]:
        made = rows("digits", split, STILL)  # type: ignore[arg-type]
        return {pixels(image)[:28, :28].tobytes() for image in made["image"]}

    assert len(cells("train")) > 30
    assert not cells("train") & cells("test")


def test_a_bar_of_ink_is_drawn_upright_in_the_middle_of_its_quadrant() -> None:
    from rl.digits.problems import _drawn

    bar = np.zeros((1, 8, 8), dtype=np.float32)
    bar[0, :, 3:5] = 1
    ink = _drawn(bar, np.random.default_rng(0), STILL)[0]
    assert ink.shape == (28, 28)
    np.testing.assert_allclose(ink, ink[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(ink, ink[::-1], atol=1e-5)
    # Two cells of 20 / 8 pixels wide, eight cells tall: 5 x 20 pixels of ink.
    assert ink.sum() == pytest.approx(5 * 20, rel=0.02)


def test_the_file_reads_back_as_any_parquet_data_set_with_images(cache: Path) -> None:
    path = dataset_path("digits", "test", FEW)
    assert cache in path.parents
    read = load_dataset("parquet", data_files=str(path), split="train")
    made = rows("digits", "test", FEW)
    assert read["digits"][:] == made["digits"]
    assert read[7]["image"].size == (56, 56)
    np.testing.assert_array_equal(np.asarray(read[7]["image"]), pixels(made["image"][7]))


def test_the_text_sums_name_their_digits_and_have_no_picture(cache: Path) -> None:
    read = load_dataset(
        "parquet", data_files=str(dataset_path("digits-text", "train", FEW)), split="train"
    )
    assert "image" not in read.column_names
    for row in read:
        assert [int(digit) for digit in re.findall(r"\d", row["question"])] == row["digits"]


def test_a_second_call_writes_nothing_and_another_drawing_lies_elsewhere(cache: Path) -> None:
    first = dataset_path("digits-text", "train", FEW)
    written = first.stat().st_mtime_ns
    assert dataset_path("digits-text", "train", FEW) == first
    assert first.stat().st_mtime_ns == written
    other = dataset_path("digits-text", "train", Drawing(num_train=61, num_test=40))
    assert other.parent != first.parent
    assert not [folder for folder in first.parent.parent.iterdir() if folder.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "split", "named"), [("digit", "train", "'digit'"), ("digits", "dev", "'dev'")]
)
def test_unknown_names_are_refused_with_the_known_ones(name: str, split: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}.*(digits-text|train)"):
        dataset_path(name, split)
