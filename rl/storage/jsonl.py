"""Files of one JSON object a line: after a crash, a half-written last line costs only itself."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from rl.storage.atomic import atomic_file

logger = logging.getLogger(__name__)


class JsonlWriter:
    """A file that grows by whole lines, which outlive this process once `write` returns.

    Half a character, as a tokenizer can leave it, is written as its escape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO = path.open("a", encoding="utf-8", errors="backslashreplace")

    def write(self, *lines: Mapping[str, Any]) -> None:
        """Append `lines`. ValueError when one holds NaN or infinity, which are no JSON."""
        self._file.write("".join(to_json_line(line) for line in lines))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def to_json_line(line: Mapping[str, Any]) -> str:
    """`line` as JSON with a line end."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in `path`, none if there is no such file; lines that are no JSON are left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            try:
                line: Any = json.loads(text)
            except json.JSONDecodeError:
                logger.warning("%s:%d is not whole and is passed over", path, number)
                continue
            if isinstance(line, dict):
                yield cast("dict[str, Any]", line)


def filter_lines(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Rewrite `path` with the lines that `keep` wants, whole or not at all."""
    if not path.is_file():
        return
    with (
        atomic_file(path) as aside,
        aside.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.writelines(to_json_line(line) for line in read_lines(path) if keep(line))


def json_number(value: float | None) -> float | None:
    """`value` as a number of JSON: None where it is NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)
