"""The built-in problems: sums of handwritten digits, drawn from scikit-learn's bundled scans.

Two to four scans are drawn into one picture, a quadrant each, in reading order; the question asks
for their sum. The test split uses only scans that the train split never shows. Both splits are
written once as parquet files, and are then read as a user's data would be.

Axis legend: N problems, D digits of a problem, K scans, S the side of a picture in pixels,
Q the side of a quadrant.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rl.digits import wording
from rl.digits.wording import MOST_DIGITS, NUM_WORDINGS, sum_question
from rl.storage.cache import cache_folder, code_digest, get_or_build

Split = Literal["train", "test"]
Floats = NDArray[np.float32]
SPLITS: tuple[Split, ...] = ("train", "test")
NAMES: tuple[str, ...] = ("digits", "digits-text")
EMPTY = 10
"""Label of a quadrant without a digit."""
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the problems are drawn.

    `scale` to `stroke` are chances: each digit's own value is drawn evenly from plus to minus the
    number. Wide chances keep a small tower from learning the training scans by heart.
    """

    seed: int = 1
    """Splits the scans, picks the digits and moves the pen."""
    num_train: int = 16_384
    """Problems of the train split."""
    num_test: int = 512
    """Problems of the test split."""
    num_test_scans: int = 197
    """Scans kept from the train split, of 1,797."""
    side: int = 56
    """Side of a picture, pixels; a quadrant is half of it."""
    digit: float = 20.0
    """Side of a scan as drawn, pixels."""
    scale: float = 0.12
    """Relative change of that side."""
    shift: float = 2.0
    """Distance of a digit from its quadrant's middle along each axis, pixels."""
    turn: float = 10.0
    """Angle of a digit, degrees."""
    slant: float = 0.1
    """Pixels across for each pixel down."""
    stroke: float = 0.3
    """Width of the pen: grey values are raised to the power of 2 to this."""
    test_chance: float = 0.5
    """Share of each of these chances that the test split is drawn with."""
    least_ink: float = 0.6
    """Darkness of the palest ink; the darkest is 1."""
    noise: float = 0.04
    """Standard deviation of the paper's grain; black is 1."""


def dataset_path(name: str, split: str, drawing: Drawing | None = None) -> Path:
    """The parquet file of a built-in data set's split; drawn and written where it is not there.

    Columns: `id`, `question`, `answer` (a decimal text), `digits` (integers in reading order), and
    for `digits` also `image` (PNG). It lies under the folder that the environment variable
    R1V_CACHE names (default ~/.cache/r1v-ray), in a folder named by a hash of this file's code and
    of `drawing`, so that a file made by other code is never taken for this one's.

    Raises:
        ValueError: there is no such data set or split.
    """
    if name not in NAMES:
        raise ValueError(f"there is no built-in data set {name!r}; the names are {NAMES}")
    if split not in SPLITS:
        raise ValueError(f"data set {name!r} has no split {split!r}; the splits are {SPLITS}")
    drawing = drawing or Drawing()
    # numpy's version counts, since its random streams may change
    digest = code_digest((__file__, wording.__file__), drawing, np.__version__)
    folder = cache_folder() / "data" / f"{name}-{digest}"
    return get_or_build(folder, lambda aside: _write(aside, name, drawing)) / f"{split}.parquet"


def rows(name: str, split: Split, drawing: Drawing) -> dict[str, list[Any]]:
    """The columns of a split, images as encoded PNG: one list a column, one entry a problem."""
    rng = np.random.default_rng([drawing.seed, SPLITS.index(split)])
    num = drawing.num_train if split == "train" else drawing.num_test
    scans, labels = _scans(split, drawing)
    if split == "test":
        drawing = _calmer(drawing)
    counts_N = rng.integers(2, MOST_DIGITS + 1, size=num)
    picks_ND = rng.integers(0, len(scans), size=(num, MOST_DIGITS))
    wordings_N = rng.integers(0, NUM_WORDINGS, size=num)
    digits = [labels[picks_ND[n, : counts_N[n]]].tolist() for n in range(num)]
    columns: dict[str, list[Any]] = {
        "id": [f"{name}-{split}-{n}" for n in range(num)],
        "question": [
            sum_question(shown, int(form), pictured=name == "digits")
            for form, shown in zip(wordings_N, digits, strict=True)
        ],
        "answer": [str(sum(shown)) for shown in digits],
        "digits": digits,
    }
    if name == "digits":
        pictures = _pictures(scans, picks_ND, counts_N, rng, drawing)
        columns["image"] = [{"bytes": _png(picture), "path": None} for picture in pictures]
    return columns


def drawn_digits(
    split: Split, count: int, rng: np.random.Generator, drawing: Drawing
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` pictures of a split's scans drawn by lot: uint8 [N, S, S], and int64 [N, 4], what
    each quadrant shows, in reading order."""
    scans, labels = _scans(split, drawing)
    counts_N = rng.integers(2, MOST_DIGITS + 1, size=count)
    picks_ND = rng.integers(0, len(scans), size=(count, MOST_DIGITS))
    shown_ND = np.arange(MOST_DIGITS) < counts_N[:, None]
    pictures = np.stack(list(_pictures(scans, picks_ND, counts_N, rng, drawing)))
    return pictures, np.where(shown_ND, labels[picks_ND], EMPTY)


def _calmer(drawing: Drawing) -> Drawing:
    chances = ("scale", "shift", "turn", "slant", "stroke")
    calm = {name: drawing.test_chance * getattr(drawing, name) for name in chances}
    return replace(drawing, **calm)


@lru_cache(maxsize=2)
def _scans(split: Split, drawing: Drawing) -> tuple[Floats, NDArray[np.int64]]:
    """The split's scans, float32 [count, 8, 8] in [0, 1] with ink at 1, and what they show."""
    from sklearn.datasets import load_digits  # half a second, and only where data is made

    bundled: Any = load_digits()
    order = np.random.default_rng(drawing.seed).permutation(len(bundled.target))
    held_out, seen = order[: drawing.num_test_scans], order[drawing.num_test_scans :]
    chosen = seen if split == "train" else held_out
    return (bundled.images[chosen] / 16).astype(np.float32), bundled.target[chosen]


def _pictures(
    scans: Floats,
    picks_ND: NDArray[np.int64],
    counts_N: NDArray[np.int64],
    rng: np.random.Generator,
    drawing: Drawing,
) -> Iterator[NDArray[np.uint8]]:
    """The picked scans as dark ink on light paper: uint8 [S, S] a problem.

    All are drawn `_CHUNK` problems at a time: one by one takes three times as long.
    """
    quadrant = drawing.side // 2
    for start in range(0, len(picks_ND), _CHUNK):
        picked_ND = picks_ND[start : start + _CHUNK]
        ink = _drawn(scans[picked_ND.ravel()], rng, drawing)
        ink = ink.reshape(-1, 2, 2, quadrant, quadrant)
        shown_ND = np.arange(MOST_DIGITS) < counts_N[start : start + _CHUNK, None]
        ink *= shown_ND.reshape(-1, 2, 2, 1, 1)
        paper = ink.transpose(0, 1, 3, 2, 4).reshape(-1, drawing.side, drawing.side)
        paper = paper + drawing.noise * rng.standard_normal(paper.shape, dtype=np.float32)
        yield from (255 * (1 - paper.clip(0, 1))).round().astype(np.uint8)


def _drawn(scans_K: Floats, rng: np.random.Generator, drawing: Drawing) -> Floats:
    """Each of K scans moved, turned, scaled and inked by chance: float32 [K, Q, Q], ink above 0.

    Each pixel of a quadrant is traced back to a point of its scan, where the scan is read off
    between its four nearest values.
    """
    num, quadrant, cells = len(scans_K), drawing.side // 2, scans_K.shape[-1]

    def by_lot(low: float, high: float) -> Floats:
        return rng.uniform(low, high, size=(num, 1, 1)).astype(np.float32)

    cells_per_pixel = cells / (drawing.digit * by_lot(1 - drawing.scale, 1 + drawing.scale))
    angle = np.radians(by_lot(-drawing.turn, drawing.turn))
    row, column = np.mgrid[:quadrant, :quadrant].astype(np.float32) - (quadrant - 1) / 2
    down = (row - by_lot(-drawing.shift, drawing.shift)) * cells_per_pixel
    across = (column - by_lot(-drawing.shift, drawing.shift)) * cells_per_pixel
    across = across + by_lot(-drawing.slant, drawing.slant) * down
    middle = (cells - 1) / 2 + 1  # one cell of blank paper is laid round each scan
    scan_row = np.cos(angle) * down - np.sin(angle) * across + middle
    scan_column = np.sin(angle) * down + np.cos(angle) * across + middle
    bordered = np.pad(scans_K, ((0, 0), (1, 1), (1, 1)))
    ink = _between(bordered, scan_row, scan_column) ** np.exp2(
        by_lot(-drawing.stroke, drawing.stroke)
    )
    return by_lot(drawing.least_ink, 1.0) * ink


def _between(scans_K: Floats, row: Floats, column: Floats) -> Floats:
    """Bilinear reading of scans [K, H, H] at points [K, Q, Q]; points outside read the edge."""
    side = scans_K.shape[-1]
    row, column = row.clip(0, side - 1), column.clip(0, side - 1)
    top = np.minimum(row.astype(np.int32), side - 2)
    left = np.minimum(column.astype(np.int32), side - 2)
    down, across = row - top.astype(np.float32), column - left.astype(np.float32)
    corner = top * side + left + np.arange(len(scans_K), dtype=np.int32)[:, None, None] * side**2
    values = scans_K.ravel()
    upper = values[corner] * (1 - across) + values[corner + 1] * across
    lower = values[corner + side] * (1 - across) + values[corner + side + 1] * across
    return (upper * (1 - down) + lower * down).astype(np.float32, copy=False)


def _png(picture: NDArray[np.uint8]) -> bytes:
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, format="PNG", compress_level=1)
    return encoded.getvalue()


def _write(folder: Path, name: str, drawing: Drawing) -> None:
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageColumn

    features: dict[str, Any] = {
        "id": Value("string"),
        "question": Value("string"),
        "answer": Value("string"),
        "digits": List(Value("int32")),
    }
    if name == "digits":
        features["image"] = ImageColumn()
    for split in SPLITS:
        made = Dataset.from_dict(rows(name, split, drawing), features=Features(features))
        made.to_parquet(folder / f"{split}.parquet")
