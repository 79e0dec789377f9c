"""Files and folders that appear whole or not at all."""

import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from rl.console.errors import UserError

_PROJECT = Path(__file__).resolve().parents[2]


@contextmanager
def atomic_file(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` if the block succeeds."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # process ids repeat across nodes
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def unfinished(folder: Path) -> Path:
    """Where `atomic_folder` writes what becomes `folder`, unless existing="keep"."""
    return folder.with_name(f".writing_{folder.name}")


@contextmanager
def atomic_folder(
    folder: Path, existing: Literal["refuse", "replace", "keep"] = "refuse"
) -> Generator[Path]:
    """Yield an empty folder to fill; it takes the name `folder` if the block succeeds.

    Args:
        existing: what happens to a `folder` that is there already. "refuse": ValueError, unless it
            is empty. "replace": it is removed at the end; what a failed attempt has written stays
            until the next one, since other ranks may still be writing to it. "keep": it wins, and
            the new one is dropped; several processes may build the same folder.

    Raises:
        ValueError: `existing` is "refuse" and `folder` is a file or holds files.
    """
    if existing == "refuse":
        refuse_existing(folder)
    aside = unfinished(folder)
    if existing == "keep":
        aside = aside.with_name(f"{aside.name}.{uuid.uuid4().hex}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        _share_files(aside)
        if existing == "replace":
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # an empty one is in nobody's way
        try:
            aside.rename(folder)
        except OSError:
            if existing != "keep" or not folder.is_dir():
                raise
    finally:
        if existing != "replace":
            shutil.rmtree(aside, ignore_errors=True)


def _share_files(folder: Path) -> None:
    """Give all files in `folder` at least the mode that the umask leaves to new ones.

    safetensors writes files that only their owner can read, which nobody else could serve.
    """
    shared = folder.stat().st_mode & 0o666  # as it was just made
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = path.stat().st_mode & 0o777
            if mode | shared != mode:
                path.chmod(mode | shared)


def refuse_existing(folder: Path) -> None:
    """Raise UserError if `folder` is a file, not empty, or in a package of this project."""
    refuse_package(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder} is there already; name another folder in out=, or remove it")


def refuse_package(folder: Path) -> None:
    """Raise UserError if `folder` lies in a package of this project, such as `models`."""
    there = folder.resolve()
    for package in (path.parent for path in _PROJECT.glob("*/__init__.py")):
        if there.is_relative_to(package):
            raise UserError(
                f"{folder} lies in this project's Python package {package}; name a folder "
                f"elsewhere, such as checkpoints/{folder.name}"
            )


def link_or_copy(source: str, target: str) -> None:
    """Make `target` a hard link to the file `source`, or a copy where links are not possible."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
