"""Images are opened alike wherever they are used, and broken ones say why they cannot be."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from rl.data import images
from rl.data.images import BadImage, DecodedImages, open_image, scaled_size, upright_size


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fault(image: bytes | str, max_pixels: int | None = None) -> str:
    with pytest.raises(BadImage) as caught:
        open_image(image, max_pixels)
    return caught.value.fault


def test_bytes_and_files_open_to_the_same_rgb_pixels(tmp_path: Path) -> None:
    grey = encoded(Image.new("L", (2, 3), 7))
    (tmp_path / "grey.png").write_bytes(grey)
    for image in (open_image(grey), open_image(str(tmp_path / "grey.png"))):
        assert (image.mode, image.size, image.getpixel((1, 2))) == ("RGB", (2, 3), (7, 7, 7))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_becomes_white(mode: str) -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0)).convert(mode)
    kind = "TIFF" if mode == "PA" else "PNG"
    assert open_image(encoded(clear, kind)).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the left
    assert open_image(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif)).size == (2, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_the_upright_size_is_that_of_the_opened_picture(kind: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image = encoded(Image.new("RGB", (4, 2)), kind, exif=exif)
    assert upright_size(image) == open_image(image).size


def test_a_picture_is_refused_by_its_size_before_it_is_decoded() -> None:
    broken_and_large = encoded(Image.new("RGB", (100, 100)))[:60]
    assert fault(broken_and_large, max_pixels=9_999) == "image_bomb"
    assert open_image(encoded(Image.new("RGB", (100, 100))), max_pixels=10_000).size == (100, 100)


def test_what_cannot_be_decoded_in_full_is_corrupt() -> None:
    noisy = Image.effect_noise((64, 64), 50)
    assert fault(encoded(noisy)[:-200]) == "corrupt_image"
    assert fault(encoded(noisy, "JPEG")[:-200]) == "corrupt_image"
    assert fault(b"") == "corrupt_image"


def test_formats_whose_decoders_start_programs_are_not_decoded() -> None:
    assert fault(encoded(Image.new("RGB", (2, 2)), "EPS")) == "corrupt_image"


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert fault(str(tmp_path / "none.png")) == "missing_image"


def test_an_image_is_decoded_once_while_there_is_room_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[bytes | str] = []

    def count(image: bytes | str) -> Image.Image:
        decoded.append(image)
        return open_image(image)

    monkeypatch.setattr(images, "open_image", count)
    first, second, third = (encoded(Image.new("L", (10, 10), shade)) for shade in (0, 99, 200))
    kept = DecodedImages(room=200)
    assert kept.open(first) is kept.open(first)
    kept.open(second), kept.open(first)  # the second is now the one that was not wanted longest
    kept.open(third), kept.open(first)
    assert decoded == [first, second, third]
    kept.open(second)
    assert decoded == [first, second, third, second]


@pytest.mark.parametrize(
    ("size", "largest", "scaled"),
    [
        ((400, 100), None, (400, 100)),
        ((400, 100), 40_000, (400, 100)),
        ((400, 100), 10_000, (200, 50)),
        ((100, 400), 10_000, (50, 200)),
        ((30, 20), 100, (12, 8)),
        ((10_000, 1), 100, (100, 1)),
    ],
)
def test_large_pictures_are_scaled_to_the_pixels_asked_for(
    size: tuple[int, int], largest: int | None, scaled: tuple[int, int]
) -> None:
    assert scaled_size(size, largest) == scaled
    assert DecodedImages(largest).open(encoded(Image.new("RGB", size))).size == scaled
