"""A full disk, told as such: what writes large files tells it in many ways."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rl.console.errors import UserError

_PROBE_BYTES = 2**20


class DiskFull(UserError):
    """There is no room for what was to be written."""


@contextmanager
def tell_full_disk(folder: Path, what: str) -> Generator[None]:
    """Around what writes `what` below `folder`, which is there, on this node or others.

    torch and safetensors say of a full disk that a position is unexpected, or the like. So whatever
    they raise, it is tried whether a little can still be written.

    Raises:
        DiskFull: it cannot; the text says how much is free.
    """
    try:
        yield
    except DiskFull:  # what lies within has said it better
        raise
    except Exception as error:
        refused = _refusal(folder)
        if refused is None:
            raise
        total, _, free = shutil.disk_usage(folder)
        raise DiskFull(
            f"{what} could not be written to {folder}: {refused} ({free / 1e9:.1f} of "
            f"{total / 1e9:.1f} GB are free); make room, then go on by --resume"
        ) from error


def _refusal(folder: Path) -> str | None:
    """Why not even a little can be written to `folder`; None: it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())  # some file systems say it only then
    except OSError as error:
        return error.strerror or str(error)
    return None
