"""Reading what another process writes to a run's folder, while it writes."""

import json
from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import Any


class JsonlTail:
    """New lines of a file that grows, and that is cut when its run goes back to a checkpoint."""

    def __init__(self, path: Path) -> None:
        """Lines that are there already are not new."""
        self._path = path
        self._file = 0
        self._read = 0
        self._told = 0.0
        for _ in self.new():
            pass

    def new(self) -> Iterator[dict[str, Any]]:
        """Whole lines written since the last call, told apart by their `time`."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            inode = self._path.stat().st_ino
            # A file that was cut is another one, or by chance of numbers a shorter one.
            if inode != self._file or file.seek(0, SEEK_END) < self._read:
                self._file, self._read = inode, 0
            file.seek(self._read)
            text, end, _ = file.read().rpartition(b"\n")
        self._read += len(text) + len(end)
        for line in map(json.loads, text.splitlines()):
            if line["time"] > self._told:
                self._told = line["time"]
                yield line
