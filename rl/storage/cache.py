"""Things that are made once and kept: data sets, the laptop's parts, start policies."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where everything made once lies: $R1V_CACHE, or ~/.cache/r1v-ray."""
    return Path(os.environ.get("R1V_CACHE", "~/.cache/r1v-ray")).expanduser()


def get_or_build(folder: Path, fill: Callable[[Path], object]) -> Path:
    """`folder`; where it is not there, `fill` is given another one, which is then renamed.

    So a half-made folder never has the name, and of two processes the slower one's is dropped.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
