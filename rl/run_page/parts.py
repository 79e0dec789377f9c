"""Rows in script files, which a page may load from a disk where it may not read other files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl.storage.atomic import atomic_file


def write_script(path: Path, payload: str) -> None:
    """Write a script that hands the JSON in `payload` to the page that loads it."""
    with atomic_file(path) as aside:
        aside.write_text(f"runPage.take({payload});\n", "utf-8", errors="backslashreplace")


class Parts:
    """Rows in files NAME_0000.js, NAME_0001.js ...: full ones never change, the last one grows."""

    def __init__(self, folder: Path, name: str, most_bytes: int) -> None:
        """`most_bytes`: size from which a file is full."""
        self._folder = folder
        self._name = name
        self._most_bytes = most_bytes
        self._texts: list[str] = []
        self._bytes = 0
        self._written = 0
        self._number = 0

    @property
    def count(self) -> int:
        """Files with the rows so far."""
        return self._number + 1 if self._texts else 0

    def add(self, row: Mapping[str, Any] | tuple[Any, ...]) -> tuple[int, int]:
        """Put a row behind the others; its file's number, and its place in there."""
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if self._texts and self._bytes + len(text) > self._most_bytes:
            self.write()
            self._number += 1
            self._texts, self._bytes, self._written = [], 0, 0
        self._texts.append(text)
        self._bytes += len(text)
        return self._number, len(self._texts) - 1

    def write(self) -> None:
        """Bring the rows since the last time to the disk."""
        if self._written < len(self._texts):
            rows = ",\n".join(self._texts)
            write_script(self._folder / f"{self._name}_{self._number:04d}.js", f"[\n{rows}\n]")
            self._written = len(self._texts)

    def remove_others(self) -> None:
        """Remove files that an earlier writer left behind these."""
        for path in self._folder.glob(f"{self._name}_*.js"):
            number = path.stem.removeprefix(f"{self._name}_")
            if number.isdecimal() and int(number) >= self.count:
                path.unlink()
