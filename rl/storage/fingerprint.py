"""Fingerprints of rows: whether a run that goes on still has the rows that it began with."""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.console.errors import UserError
from rl.storage.atomic import atomic_file

FINGERPRINT = "rows.npy"
"""The file in a checkpoint."""


def row_fingerprint(row: Mapping[str, Any]) -> int:
    """64 bits of a row's values by their columns; of images only the size in bytes."""
    digest = blake2b(digest_size=8)
    for name in sorted(row):
        digest.update(f"{name}\0{_plain(row[name])!r}\0".encode())
    return int.from_bytes(digest.digest(), "big")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            return len(value["bytes"])  # its path may have moved
        return {key: _plain(each) for key, each in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    size = getattr(value, "size", None)  # a decoded image's
    return (type(value).__name__, size) if size is not None else str(value)


def save_fingerprint(folder: Path, rows_N: NDArray[np.uint64]) -> None:
    """Write the fingerprints of the usable rows, in their order, into a checkpoint's folder."""
    with atomic_file(folder / FINGERPRINT) as aside, aside.open("wb") as out:
        np.save(out, rows_N, allow_pickle=False)


def check_same_rows(folder: Path, rows_N: NDArray[np.uint64], source: str) -> None:
    """Check that the usable rows are those behind the checkpoint in `folder`.

    A step's rows are places in their order: with one row fewer, many would come twice in an epoch
    and as many never. Checkpoints of a time without fingerprints are passed over.

    Args:
        rows_N: uint64 [n], `row_fingerprint` of each usable row, in order.
        source: what the recipe calls them, for the message.

    Raises:
        UserError: says how many there were and are, and which is the first that differs.
    """
    path = folder / FINGERPRINT
    if not path.is_file():
        return
    then_N: NDArray[np.uint64] = np.load(path, allow_pickle=False)
    if np.array_equal(then_N, rows_N):
        return
    shared = min(len(then_N), len(rows_N))
    differ = np.flatnonzero(then_N[:shared] != rows_N[:shared])
    first = int(differ[0]) if len(differ) else shared
    raise UserError(
        f"--resume: {source!r} has other usable rows than the run began with: {len(then_N):,} then "
        f"and {len(rows_N):,} now, and the first that differs is number {first:,} of them, counted "
        "from 0. Bring the old rows back, or start a run of another name without --resume"
    )
