"""Files and folders that appear whole or not at all."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_folder(aside: Path, folder: Path) -> None:
    """Give what was written aside its name."""
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def link_or_copy(source: str, target: str) -> None:
    """A second name for the same file where the file system can, a copy where not."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def atomic_folder(out: Path) -> Generator[Path]:
    """A folder to fill that gets the name `out` when all went well, and is removed when not.

    Raises:
        ValueError: `out` is there already.
    """
    refuse_existing(out)
    aside = out.with_name(f".writing_{out.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        with suppress(OSError):
            out.rmdir()  # an empty one is in nobody's way
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def refuse_existing(out: Path) -> None:
    """ValueError where `out` is a file, or a folder that is not empty."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"{out} is there already; name another folder in out=, or remove it")
