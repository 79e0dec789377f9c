"""How clear an image is, by its pixels alone (QDAM's part that needs no model)."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from rl.data.images import open_image

_HALF_SHARP = 100.0
"""Variance of the Laplacian of 8-bit grey values below which images are usually called blurred."""


def clarity(images: Sequence[bytes | str], full_resolution: int) -> float:
    """Mean over `images` of (sharpness + resolution) / 2, in [0, 1]; 0 without images.

    sharpness = v / (v + 100), v the variance of the Laplacian of grey values in [0, 255];
    resolution = min(1, shorter side / `full_resolution`), sides in pixels. The paper (section 2.3)
    names both and gives no formula.

    Raises:
        BadImage: an image cannot be decoded.
    """
    return fmean(_clarity(image, full_resolution) for image in images) if images else 0.0


def _clarity(image: bytes | str, full_resolution: int) -> float:
    grey = np.asarray(open_image(image).convert("L"), dtype=np.float32)
    resolution = min(1.0, min(grey.shape) / full_resolution)
    variance = float(laplacian(grey).var()) if min(grey.shape) > 2 else 0.0
    return (variance / (variance + _HALF_SHARP) + resolution) / 2


def laplacian(grey_HW: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sum of the four neighbours less four times the pixel itself, [H - 2, W - 2]."""
    middle = grey_HW[1:-1, 1:-1]
    across = grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:]
    return grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + across - 4 * middle
