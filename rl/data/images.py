"""Opening an image: one place, so that what was checked is what is trained on."""

import math
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is decoded. Pillow knows more, some of which start programs of their own (EPS)."""

_ON_ITS_SIDE = (5, 6, 7, 8)
"""Orientations in EXIF that swap width and height."""

ImageFault = Literal[
    "missing_image", "corrupt_image", "image_bomb", "image_outside_folder", "image_depth"
]


class BadImage(ValueError):
    """An image that cannot be used; `fault` is one word for counting."""

    def __init__(self, fault: ImageFault, detail: str) -> None:
        super().__init__(detail)
        self.fault: ImageFault = fault


def open_image(image: bytes | str, max_pixels: int | None = None) -> Image.Image:
    """Decode encoded bytes or a file to RGB: upright by its EXIF, transparent parts white.

    Raises:
        BadImage: no such file, not an image, broken, or more than `max_pixels` (width x height).
    """
    with _opened(image, max_pixels) as opened:
        opened.load()
        return _rgb(ImageOps.exif_transpose(opened))


class DecodedImages:
    """The images that a process decoded last, so that none is decoded at each use."""

    def __init__(self, largest: int | None = None, room: int = 32_000_000) -> None:
        """`largest`: pixels that an image is scaled down to, None: not at all; `room`: pixels of
        all that are kept together, 3 bytes each."""
        self._largest = largest
        self._room = room
        self._kept: OrderedDict[bytes | str, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, image: bytes | str) -> Image.Image:
        """As `open_image`, scaled down; the result is shared and may not be changed."""
        with self._lock:
            if image in self._kept:
                self._kept.move_to_end(image)
                return self._kept[image]
        decoded = open_image(image)
        if decoded.size != (size := scaled_size(decoded.size, self._largest)):
            decoded = decoded.resize(size, Image.Resampling.BICUBIC)
        with self._lock:
            if image not in self._kept:
                self._kept[image] = decoded
                self._room -= decoded.width * decoded.height
            while self._room < 0:
                _, oldest = self._kept.popitem(last=False)
                self._room += oldest.width * oldest.height
        return decoded


def scaled_size(size: tuple[int, int], largest: int | None) -> tuple[int, int]:
    """(width, height) scaled down to at most `largest` pixels, shape kept; as it is where it fits
    or `largest` is None."""
    width, height = size
    if largest is None or width * height <= largest:
        return size
    scale = math.sqrt(largest / (width * height))
    # A thin line stays one pixel wide, and its length gives way.
    narrow = max(1, int(min(size) * scale))
    wide = max(1, min(int(max(size) * scale), largest // narrow))
    return (narrow, wide) if width < height else (wide, narrow)


def upright_size(image: bytes | str) -> tuple[int, int]:
    """Width and height of what `open_image` gives, without decoding it. Raises as that does."""
    with _opened(image, None) as opened:
        width, height = opened.size
        # Pillow has turned a TIFF's size already.
        sideways = opened.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
        turned = sideways and opened.format != "TIFF"
    return (height, width) if turned else (width, height)


@contextmanager
def _opened(image: bytes | str, max_pixels: int | None) -> Generator[Image.Image]:
    """The image, not decoded yet; what goes wrong with it in the block comes out as BadImage."""
    try:
        source = image if isinstance(image, str) else BytesIO(image)
        with Image.open(source, formats=FORMATS) as opened:
            width, height = opened.size
            if max_pixels is not None and width * height > max_pixels:
                raise BadImage(
                    "image_bomb", f"{width} x {height} pixels are more than {max_pixels:,}"
                )
            yield opened
    except BadImage:
        raise
    except FileNotFoundError as error:
        raise BadImage("missing_image", f"there is no file {image!r}") from error
    except Image.DecompressionBombError as error:
        raise BadImage("image_bomb", str(error)) from error
    except Exception as error:  # decoders answer broken bytes with any exception there is
        raise BadImage("corrupt_image", f"{type(error).__name__}: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP:
        image = _eight_bits(image)
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        white = Image.new("RGBA", solid.size, "white")
        return Image.alpha_composite(white, solid).convert("RGB")
    return image.convert("RGB")


_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of more than 8 bits a value, which its own conversion to RGB cuts off at 255."""


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, or of floats from 0 to 1, scaled to 8 bits.

    Raises:
        BadImage: its values are of another range, so that white is not known.
    """
    values_HW = np.asarray(image).astype(np.float64)
    low, high = float(values_HW.min()), float(values_HW.max())
    white = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0.0 and high <= white):
        raise BadImage(
            "image_depth",
            f"its values go from {low:g} to {high:g}, and only grey of 16 bits (0 to 65535) or "
            "floats from 0 to 1 can be scaled to 8 bits; convert it first",
        )
    return Image.fromarray(np.rint(values_HW * (255.0 / white)).astype(np.uint8))


def image_format(image: bytes) -> str:
    """The file ending that fits encoded `image`. BadImage when it is none that is decoded."""
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as opened:
            return str(opened.format).lower()
    except OSError as error:
        raise BadImage("corrupt_image", str(error)) from error
