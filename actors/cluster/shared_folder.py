"""Folders that a run writes to: they must outlive it, and every learner rank must reach them."""

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray

from rl.console.errors import UserError
from rl.storage.atomic import refuse_package

_JOB_COPIES = "working_dir_files"
"""Ray's folder for the copies of `--working-dir` that submitted jobs run in."""
_LATE_S = 10.0
"""What a shared file system may take to show a new file on another node."""


class UnusableFolder(UserError):
    """What a run writes would be lost, or not reach all who need it."""


def check_run_folder(folder: Path) -> None:
    """Check that a run can write to `folder`, which need not be there yet, and that it stays.

    Raises:
        UserError: it cannot, or the folder lies in a package of the project, or in the copy of it
            that Ray made for a submitted job, and deletes.
    """
    if _JOB_COPIES in folder.resolve().parts:
        raise UnusableFolder(
            f"the run's folder would be {folder.resolve()}, in the copy of the project that Ray "
            "made for this job and deletes behind it: set log.folder to an absolute path that all "
            "nodes reach"
        )
    refuse_package(folder)
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise UnusableFolder(
            f"the run's folder, {folder.resolve()}, cannot be written ({error.strerror}: {there}): "
            "set log.folder to a folder that can"
        ) from error


def file_visible(_: Any, marker: Path) -> str | None:
    """The address of this node when `marker` is not there, nor comes soon. Runs in an actor."""
    until = time.monotonic() + _LATE_S
    while not marker.is_file():
        if time.monotonic() > until:
            return ray.util.get_node_ip_address()
        time.sleep(0.5)
    return None


def check_reached(folder: Path, look: Callable[[Path], Sequence[str | None]]) -> None:
    """Check that a file written into `folder` here is seen by all others.

    Args:
        look: what `sees` returns to each of them for a file.

    Raises:
        UnusableFolder: names the nodes that do not see it.
    """
    marker = folder.resolve() / f".reached_{uuid.uuid4().hex}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    try:
        blind = sorted({address for address in look(marker) if address is not None})
    finally:
        marker.unlink()
    if blind:
        raise UnusableFolder(
            f"learner ranks on {', '.join(blind)} do not see {folder.resolve()}, where they have "
            "to write their part of each checkpoint: set log.folder to a folder that all nodes "
            "share"
        )
