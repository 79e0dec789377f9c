"""How clear an image is, by hand."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rl.distillation.clarity import clarity, laplacian


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_laplacian_is_four_neighbours_less_four_times_the_middle() -> None:
    grey = np.array([[1, 2, 3], [4, 10, 6], [7, 8, 9]], dtype=np.float32)
    assert laplacian(grey).tolist() == [[2 + 4 + 6 + 8 - 40]]
    assert not laplacian(np.full((5, 7), 9.0)).any()
    assert laplacian(np.zeros((5, 7))).shape == (3, 5)


def test_a_blank_image_has_its_resolution_and_no_sharpness() -> None:
    blank = encoded(Image.new("L", (100, 40), 128))
    assert clarity([blank], full_resolution=80) == pytest.approx((0 + 40 / 80) / 2)
    assert clarity([blank], full_resolution=20) == pytest.approx(0.5)
    assert clarity([], full_resolution=80) == 0.0


def test_a_chequered_image_has_the_sharpness_of_its_variance() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 10
    # Each neighbour differs by 10: the Laplacian is 40 or -40, its variance 1,600.
    image = encoded(Image.fromarray(board.astype(np.uint8)))
    assert clarity([image], full_resolution=64) == pytest.approx((1600 / 1700 + 1) / 2)


def test_a_blurred_image_is_less_clear_and_several_count_by_their_mean() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    sharp, soft = encoded(noise), encoded(noise.filter(ImageFilter.GaussianBlur(3)))
    each = [clarity([image], 64) for image in (sharp, soft)]
    assert each[0] > each[1] + 0.2
    assert clarity([sharp, soft], 64) == pytest.approx(sum(each) / 2)


def test_an_image_too_small_for_a_laplacian_is_not_sharp() -> None:
    assert clarity([encoded(Image.new("L", (2, 50)))], full_resolution=4) == pytest.approx(0.25)
