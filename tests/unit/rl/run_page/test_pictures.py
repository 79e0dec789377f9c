"""A page shows images of the run's folder, small copies of its data's, and nothing else."""

from pathlib import Path

import pytest
from PIL import Image

from rl.run_page.pictures import Pictures
from tests.unit.step_samples import png


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(png(4, 4))
    return folder


def test_an_image_of_the_run_is_named_as_it_lies(run: Path) -> None:
    pictures = Pictures(run, run / "report" / "images", copy=False)
    assert pictures("images/a.png") == {"src": "images/a.png"}
    assert pictures("images/none.png") == {"path": "images/none.png"}


def test_what_lies_outside_the_run_is_refused(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(4, 4))
    (run / "images" / "link.png").symlink_to(outside)
    pictures = Pictures(run, run / "report" / "images", copy=False)
    names = [str(outside), "../secret.png", "images/../../secret.png", "images/link.png"]
    for name in names:
        assert pictures(name) == {"path": name}
    assert not (run / "report").exists()


def test_a_run_keeps_small_copies_of_its_datas_images_which_are_found_later(
    run: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(png(2000, 1000))
    copies = run / "report" / "images"
    made = Pictures(run, copies, copy=True)(str(large))
    with Image.open(run / made["src"]) as copy:
        assert copy.size == (768, 384)
    large.unlink()
    assert Pictures(run, copies, copy=False)(str(large)) == made


def test_a_broken_image_is_told_by_its_path(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    pictures = Pictures(run, run / "report" / "images", copy=True)
    assert pictures(str(broken)) == {"path": str(broken)}
