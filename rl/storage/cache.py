"""Folders that are made once and kept: data sets, the laptop's parts, start policies."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from rl.storage.atomic import atomic_folder


def cache_folder() -> Path:
    """The root of all caches: $R1V_CACHE, or ~/.cache/r1v-ray."""
    return Path(os.environ.get("R1V_CACHE", "~/.cache/r1v-ray")).expanduser()


def get_or_build(folder: Path, fill: Callable[[Path], object]) -> Path:
    """Return `folder`; where it is not there, it is what `fill` writes into the folder it is given.

    A half-made folder never has the name. Of two processes that build it the slower one's is
    dropped.
    """
    if not folder.is_dir():
        with atomic_folder(folder, existing="keep") as aside:
            fill(aside)
    return folder


def code_digest(modules: tuple[str, ...], *settings: object) -> str:
    """16 hex digits that change with the code in `modules` and with `settings`.

    Args:
        modules: the modules' `__file__`.
        settings: told apart by their `str`.
    """
    code = b"".join(Path(module).read_bytes() for module in modules)
    words = json.dumps([str(each) for each in settings]).encode()
    return hashlib.sha256(code + words).hexdigest()[:16]
